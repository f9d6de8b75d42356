// Claims that were written down before the run, and what the rows say of them.

registerTab({
  id: "claims",
  title: "Claims",
  order: 5,

  build(place) {
    if (!report.claims.length) {
      byId("claims").hidden = true;
      document.querySelector('nav a[href="#claims"]').remove();
      return;
    }
    const { file, sha256 } = report.run.claims;
    place.append(
      element(
        "p",
        { class: "about" },
        `Written down in ${file} before the first row. A claim holds or is refuted where the ` +
        "mean difference is certainly not 0, and is equivalent where it certainly lies " +
        "within the margin. All are corrected together by Holm\u2019s method, and fewer " +
        "than 30 images decide nothing. Intervals are not corrected.",
      ),
      scrolling("claims-table", "Claims"),
      element("p", { class: "key" }, `SHA-256 of the file: ${sha256}`),
    );
    sortableTable(byId("claims-table"), claimColumns(), report.claims);
  },
});

function claimColumns() {
  const digits = 3;
  const numeric = (title, value, text, highFirst = true) => ({
    title,
    value,
    highFirst,
    cell: (claim) => element("td", {}, text(claim)),
  });
  const between = ({ low, high }) =>
    `[${fixed(low, digits, "+")}, ${fixed(high, digits, "+")}]`;
  const chance = (p, corrected) => `${quantity(p)} (${quantity(corrected)})`;
  return [
    {
      title: "Claim",
      value: (claim) => claim.claim,
      cell: (claim) => element("th", { scope: "row", class: "claim" }, claim.claim),
    },
    {
      title: "Verdict",
      value: (claim) => claim.verdict,
      cell: (claim) =>
        element(
          "td", {}, element("span", { class: "best" }, claim.verdict), neededText(claim),
          claim.metric_can_judge === false
            ? element("span", { class: "unit doubt" }, "metric cannot judge here")
            : null,
        ),
    },
    numeric("Images", (c) => c.n, (c) => String(c.n)),
    numeric("Difference", (c) => c.mean, (c) => [
      fixed(c.mean, digits, "+"),
      element("span", { class: "ends" }, between(c)),
    ]),
    numeric("Margin", (c) => c.margin, (c) => quantity(c.margin)),
    numeric("p (corrected)", (c) => c.p, (c) => chance(c.p, c.corrected_p), false),
    numeric(
      "p equivalent (corrected)",
      (c) => c.p_equivalent,
      (c) => chance(c.p_equivalent, c.corrected_p_equivalent),
      false,
    ),
    numeric("Effect", (c) => c.effect, (c) => fixed(c.effect, 2, "+")),
    numeric("Wins", (c) => c.wins, (c) => (c.wins === null ? "-" : `${Math.round(100 * c.wins)}%`)),
  ];
}

function neededText({ needed }) {
  if (needed === null) return null;
  return element("span", { class: "ends" }, `about ${needed.toLocaleString("en")} images would decide`);
}
