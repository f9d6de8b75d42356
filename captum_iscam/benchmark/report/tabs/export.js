// The tables as files, to copy or to save, and how to cite the package.

registerTab({
  id: "export",
  title: "Export",
  heading: "Tables for a paper",
  order: 55,

  build(place) {
    const what = {
      "summary.tex": "LaTeX, for \\input; needs the package booktabs",
      "summary_wide.csv": "a spreadsheet: a line per network and method",
      "summary.md": "Markdown: all tables",
      "captum_iscam.bib": "BibTeX, to cite captum_iscam",
    };
    place.append(
      element(
        "ul",
        { class: "files" },
        Object.entries(report.files).map(([name, text]) => fileRow(name, what[name], text)),
      ),
      element("p", { class: "about" }, `To cite: ${report.citation.text}`),
      element(
        "p", { class: "about" }, "Please cite the papers of the methods you compare too.",
      ),
    );
  },
});

function fileRow(name, about, text) {
  const said = element("span", { role: "status" });
  const button = (title, click) =>
    element("button", { type: "button", "aria-label": `${title} ${name}`, click }, title);
  return element(
    "li",
    {},
    element("span", {}, element("code", {}, name), ` ${about}`),
    button("Copy", () => copy(text, said)),
    button("Download", () => save(name, text)),
    said,
  );
}

async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = "Copied";
  } catch {
    said.textContent = "The browser does not allow it. Download the file instead.";
  }
}

// A link to the file next to the page would open it, since pages of the file system have
// no common origin. So the page holds the text.
function save(name, text) {
  const href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}
