// Means of all metrics, or their differences to one method, in a sortable table.

registerTab({
  id: "means",
  title: "Means",
  order: 10,

  build(place, redraw) {
    const { confidence, n_resamples: resamples } = report.bootstrap;
    const choices = [
      ["", "means"],
      ...methods.map((method) => [method, `differences to ${titleOf(method)}`]),
    ];
    const select = element("select", { id: "show", change: redraw });
    fillSelect(select, choices);
    place.append(
      element(
        "p",
        { class: "about" },
        `Mean over images and, in brackets, its ${100 * confidence} % interval ` +
        `(percentile bootstrap, ${resamples.toLocaleString("en")} resamples of ` +
        "images). Click a column's title to sort by it, best first.",
      ),
      element("p", { class: "controls" }, element("label", {}, "Show ", select)),
      scrolling("means-table", "Means"),
      element("p", { class: "key", id: "means-key" }),
      ...(report.tested ? [element("p", { class: "key" }, report.tested)] : []),
      element(
        "div",
        { id: "notes" },
        (report.run.notes ?? []).map((note) => element("p", { class: "key" }, note)),
      ),
    );
  },

  draw(place, model) {
    const other = byId("show").value;
    const metrics = metricsOf(model);
    const metricColumn = other ? differenceColumn : meanColumn;
    const columns = metrics.map((metric) => ({
      ...metricColumn(model, metric, other),
      note: judgingNote(model, metric),
      muted: cannotJudge(model, metric),
    }));
    const footer = ["n", "missing", "undefined"]
      .map((field) => countsRow(model, metrics, field))
      .filter((row) => row !== null);
    sortableTable(byId("means-table"), [methodColumn(), ...columns], methods, footer);
    byId("means-key").textContent = other
      ? `Mean of the method minus that of ${titleOf(other)} on the same images, with the ` +
        "paired interval. Shaded where the difference is decided: green is better " +
        `than ${titleOf(other)}, orange is worse. ${report.decided}`
      : "Bold: a best mean that is decided, different from that of every other method. " +
        "Where it is not, ~ marks it and the methods that these images do not separate from " +
        `it. ${report.decided}`;
  },
});

function ends(entry, decimals, sign) {
  if (entry.low === null) return null;
  const [low, high] = [entry.low, entry.high].map((end) => fixed(end, decimals, sign));
  return element("span", { class: "ends" }, `[${low}, ${high}]`);
}

function meanColumn(model, metric) {
  const highFirst = report.run.metrics[metric].higher_is_better;
  const decimals = decimalsOf("means", model, metric);
  const found = entriesOf("means", model, metric);
  return {
    title: words(metric),
    unit: unitOf(metric),
    highFirst,
    value: (method) => found.get(method).mean,
    cell: (method) => {
      const entry = found.get(method);
      const text = (entry.level_with_best ? "~ " : "") + fixed(entry.mean, decimals);
      const strong = element("span", { class: entry.best ? "best" : false }, text);
      return element("td", {}, strong, ends(entry, decimals));
    },
  };
}

function differenceColumn(model, metric, other) {
  const highFirst = report.run.metrics[metric].higher_is_better;
  const decimals = decimalsOf("pairs", model, metric);
  const found = new Map(
    report.pairs
      .filter((p) => p.model === model && p.metric === metric && p.other === other)
      .map((p) => [p.method, p]),
  );
  return {
    title: words(metric),
    unit: unitOf(metric),
    highFirst,
    value: (method) => (method === other ? 0 : found.get(method).mean),
    cell: (method) => {
      if (method === other) return element("td", {}, "reference");
      const pair = found.get(method);
      const better = pair.mean > 0 === highFirst ? "better" : "worse";
      const text = fixed(pair.mean, decimals, "+");
      const shade = { class: pair.distinct && highFirst !== null ? better : false };
      return element("td", shade, text, ends(pair, decimals, "+"));
    },
  };
}

function countsRow(model, metrics, field) {
  const counts = metrics.map((metric) => {
    const found = [...entriesOf("means", model, metric).values()].map((e) => e[field]);
    const [least, most] = [Math.min(...found), Math.max(...found)];
    return least === most ? String(least) : `${least} to ${most}`;
  });
  if (field !== "n" && counts.every((count) => count === "0")) return null;
  const name = field === "n" ? "images" : field;
  const cells = counts.map((count) => element("td", {}, count));
  return element("tr", {}, element("th", { scope: "row" }, name), cells);
}
