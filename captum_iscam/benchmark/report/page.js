// Puts the page together.

const report = JSON.parse(byId("data").textContent);
const methods = Object.keys(report.run.methods);
const models = Object.keys(report.run.models);

function showHead() {
  const { run, images, bootstrap } = report;
  const target = run.settings?.target_class;
  const facts = [
    `${count(images.total, "image")} (${run.data.kind})`,
    count(models.length, "network"),
    count(methods.length, "method"),
    target ? `${target} class explained` : null,
  ];
  byId("facts").textContent = facts.filter((fact) => fact !== null).join(" \u00b7 ");
  byId("means-about").textContent =
    `Mean over images and, in brackets, its ${100 * bootstrap.confidence} % interval ` +
    `(percentile bootstrap, ${bootstrap.n_resamples.toLocaleString("en")} resamples of ` +
    "images). \u2191 more is better, \u2193 less is better. A column's title sorts by it.";
  byId("images-about").textContent = report.disagreement;
  byId("alerts").replaceChildren(...alerts().map((text) =>
    element("p", { class: "alert" }, text),
  ));
}

function alerts() {
  const found = [];
  const unreadable = report.images.unreadable.length;
  if (unreadable) found.push(`${count(unreadable, "image")} could not be read; see The run.`);
  for (const [model, { waiting }] of Object.entries(report.models)) {
    if (waiting) found.push(`The run is not over: ${model} has not seen ${count(waiting, "image")}.`);
  }
  const counts = report.means.map((entry) => entry.n).filter((n) => n > 0);
  if (counts.length && Math.min(...counts) < 30) {
    found.push(
      `Some means are over ${count(Math.min(...counts), "image")} only: below about 30 the ` +
      "intervals are too narrow.",
    );
  }
  return found;
}

function showNotes() {
  const notes = (report.run.notes ?? []).map((note) => element("p", { class: "key" }, note));
  byId("notes").replaceChildren(...notes);
}

function showSettings() {
  const { run } = report;
  const parts = [
    ["Unreadable images", report.images.unreadable, true],
    ["Errors", report.failures, true],
    ["Networks", withTop1(run.models), true],
    ["Data", run.data],
    ["Settings", run.settings],
    ["Methods", run.methods],
    ["Metrics", run.metrics],
    ["Device", run.device],
    ["Versions", run.versions],
    ["Plugins", run.plugins],
  ];
  const empty = (value) => !value || Object.keys(value).length === 0;
  byId("settings").replaceChildren(
    element("pre", {}, report.command),
    ...parts.filter(([, value]) => !empty(value)).map(([title, value, open]) =>
      element(
        "details",
        { class: "settings", open: Boolean(open) },
        element("summary", {}, title),
        listed(value),
      ),
    ),
  );
}

function withTop1(settings) {
  return Object.fromEntries(
    models.map((model) => [model, { ...settings[model], ...report.models[model] }]),
  );
}

function listed(value) {
  if (value === null || typeof value !== "object") return String(value ?? "none");
  const entries = Array.isArray(value) ? value.map((v, i) => [i + 1, v]) : Object.entries(value);
  if (Array.isArray(value) && value.every((v) => typeof v !== "object")) return value.join(", ");
  return element(
    "dl",
    {},
    entries.map(([name, v]) => [
      element("dt", {}, String(name)),
      element("dd", {}, listed(v)),
    ]),
  );
}

function showModel() {
  const model = byId("model").value;
  const metrics = metricsOf(model);
  for (const id of ["metric", "value"]) {
    const before = byId(id).value;
    fillSelect(byId(id), metrics.map((metric) => [metric, words(metric)]));
    const usual = metrics.includes("insertion") ? "insertion" : metrics[0];
    byId(id).value = metrics.includes(before) ? before : usual ?? "";
  }
  showMeans(model, byId("show").value);
  showMetric(model, byId("metric").value);
  showCurves(model);
  showCosts(model);
  showGallery(model);
}

function listen(id, show) {
  byId(id).addEventListener("change", () => show(byId("model").value, byId(id).value));
}

function start() {
  showHead();
  showNotes();
  showSettings();
  fillSelect(byId("model"), models.map((model) => [model, model]));
  fillSelect(byId("show"), [
    ["", "means"],
    ...methods.map((method) => [method, `differences to ${titleOf(method)}`]),
  ]);
  showLegend(() => showCurves(byId("model").value));
  buildPagers(() => showGallery(byId("model").value));
  byId("model").addEventListener("change", showModel);
  listen("show", showMeans);
  listen("metric", showMetric);
  for (const id of ["class", "prediction", "order"]) {
    listen(id, (model) => {
      page = 0;
      showGallery(model);
    });
  }
  listen("value", showGallery);
  listen("view", () => {
    byId("gallery").dataset.view = byId("view").value;
  });
  // Plots are drawn as wide as they are shown, so that their text keeps its size.
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    showMetric(byId("model").value, byId("metric").value);
    showCurves(byId("model").value);
  });
  showModel();
}

start();
