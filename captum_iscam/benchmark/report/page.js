// Puts the page together: the head, a section for each tab, and what changes them all.

function showHead() {
  const { run, images } = report;
  const target = run.settings?.target_class;
  const facts = [
    `${count(images.total, "image")} (${run.data.kind})`,
    count(models.length, "network"),
    count(methods.length, "method"),
    target ? `${target} class explained` : null,
  ];
  byId("facts").textContent = facts.filter((fact) => fact !== null).join(" \u00b7 ");
  byId("alerts").replaceChildren(...alerts().map((text) =>
    element("p", { class: "alert" }, text),
  ));
}

function alerts() {
  const found = [];
  const unreadable = report.images.unreadable.length;
  if (unreadable) found.push(`${count(unreadable, "image")} could not be read; see The run.`);
  for (const [model, { waiting }] of Object.entries(report.models)) {
    if (waiting) found.push(`The run is incomplete: ${model} lacks ${count(waiting, "image")}.`);
  }
  const counts = report.means.map((entry) => entry.n).filter((n) => n > 0);
  if (counts.length && Math.min(...counts) < 30) {
    found.push(
      `Some means are over ${count(Math.min(...counts), "image")} only: below about 30 the ` +
      "intervals are too narrow, and nothing is bold or shaded.",
    );
  }
  return found;
}

// Adds a link and a section; returns how to draw the tab for the chosen network.
function addTab(tab) {
  const { id, title, heading = title } = tab;
  const place = element("div");
  const redraw = () => {
    tab.draw?.(place, byId("model").value);
    markAllIn(place);
  };
  byId("sections").append(element("a", { href: `#${id}` }, title));
  byId("main").append(
    element(
      "section",
      { id, "aria-labelledby": `${id}-title` },
      element("h2", { id: `${id}-title` }, heading),
      place,
    ),
  );
  tab.build?.(place, redraw);
  return redraw;
}

function markAllIn(place) {
  place.querySelectorAll(".scroll").forEach(markEdges);
}

// Neither event rises from its element, so both are caught on their way down.
function watchEdges() {
  document.addEventListener("scroll", ({ target }) => {
    if (target.classList?.contains("scroll")) markEdges(target);
  }, true);
  document.addEventListener("toggle", ({ target }) => {
    requestAnimationFrame(() => markAllIn(target));
  }, true);
}

function start() {
  showHead();
  watchEdges();
  fillSelect(byId("model"), models.map((model) => [model, model]));
  tabs.sort((a, b) => (a.order ?? 100) - (b.order ?? 100));
  const drawing = new Map(tabs.map((tab) => [tab, addTab(tab)]));
  const drawAll = () => drawing.forEach((redraw) => redraw());
  byId("model").addEventListener("change", drawAll);
  // Plots are drawn as wide as they are shown, so that their text keeps its size.
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    drawing.forEach((redraw, tab) => tab.fitted && redraw());
    markAllIn(document);
  });
  drawAll();
}

start();
