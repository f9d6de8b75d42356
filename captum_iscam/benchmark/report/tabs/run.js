// The run: its command and all its settings, as run.json records them, and its errors.

registerTab({
  id: "run",
  title: "The run",
  order: 60,

  build(place) {
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
    place.id = "settings";
    place.append(
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
  },
});

function withTop1(settings) {
  return Object.fromEntries(models.map((model) => {
    const found = report.models[model];
    const top1 = found.top1 === null ? null : `${(100 * found.top1).toFixed(1)} %`;
    return [model, { ...settings[model], ...found, top1 }];
  }));
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
      element("dd", {}, entries.length > 1 && name === "class_names" ? folded(v) : listed(v)),
    ]),
  );
}

// There may be a thousand.
function folded(value) {
  const summary = element("summary", {}, count(Object.keys(value).length, "name"));
  return element("details", {}, summary, listed(value));
}
