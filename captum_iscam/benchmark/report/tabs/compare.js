// One metric in full: the mean of each method with its interval, and the win matrix.
//
// How it draws:
//
// 1. The methods are ordered by their mean, best first; plot and matrix share the order.
// 2. The plot (a forest plot) has a row for each method: its name, a line for the interval,
//    a dot for the mean, and the mean in numbers. The axis spans all intervals.
// 3. The matrix has a cell for each pair: the share of images on which the row beats the
//    column. The further from one half, the stronger the colour; with few images there is
//    none. A dashed outline says that the images do not distinguish the two. A metric
//    without direction has no matrix.

registerTab({
  id: "compare",
  title: "One metric",
  order: 20,
  fitted: true,

  build(place, redraw) {
    place.append(
      element(
        "p",
        { class: "controls" },
        element("label", {}, "Metric ", element("select", { id: "metric", change: redraw })),
      ),
      element("div", { id: "judging" }),
      element(
        "div",
        { class: "columns" },
        element(
          "div", {}, element("h3", {}, "Mean and interval"), element("div", { id: "forest" }),
        ),
        element(
          "div",
          {},
          element("h3", {}, "Wins"),
          element(
            "p",
            { class: "about" },
            "Share of images on which the row beats the column; a tie counts half. In " +
            `outline: the mean difference is not decided. ${report.decided} Nothing is ` +
            `shaded below ${report.min_images} images.`,
          ),
          scrolling("wins", "Wins"),
        ),
      ),
    );
  },

  draw(place, model) {
    offerMetrics(byId("metric"), model);
    const metric = byId("metric").value;
    if (!metric) return;
    byId("judging").replaceChildren(judgingNote(model, metric) ?? "");
    const found = entriesOf("means", model, metric);
    const higher = report.run.metrics[metric].higher_is_better;
    const ordered = sorted(methods, (method) => found.get(method).mean, !higher);
    const decimals = decimalsOf("means", model, metric);
    byId("forest").replaceChildren(forest(ordered, found, metric, decimals));
    byId("wins").replaceChildren(
      higher === null
        ? element("p", { class: "about" }, "Neither more nor less of this metric is better.")
        : winMatrix(ordered, model, metric),
    );
  },
});

function forest(ordered, found, metric, decimals) {
  const width = widthOf(byId("forest"));
  const [left, right, step] = [150, 66, 30];
  const height = ordered.length * step + 40;
  const values = ordered.flatMap((method) => {
    const { low, mean, high } = found.get(method);
    return [low, mean, high].filter((value) => value !== null);
  });
  if (!values.length) return element("p", { class: "about" }, "No image has a value.");
  const about = width < 450 ? 3 : 5; // ticks
  const ticks = evenTicks(Math.min(...values), Math.max(...values), about);
  const [from, to] = [ticks[0], ticks[ticks.length - 1]];
  const x = (value) => left + ((value - from) / (to - from)) * (width - left - right);
  const label = ordered
    .map((method) => `${titleOf(method)} ${fixed(found.get(method).mean, decimals)}`)
    .join(", ");
  return drawn(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${words(metric)}: ${label}` },
    ticks.map((tick) => [
      drawn("line", { class: "axis", x1: x(tick), x2: x(tick), y1: 0, y2: height - 30 }),
      drawn(
        "text",
        { x: x(tick), y: height - 14, "text-anchor": "middle" },
        tickText(tick, ticks),
      ),
    ]),
    ordered.map((method, i) =>
      forestRow(method, found.get(method), decimals, x, width, i * step + 16),
    ),
  );
}

function forestRow(method, { low, mean, high }, decimals, x, width, y) {
  const colour = colourOf(method);
  const name = shortened(titleOf(method), 20);
  return [
    drawn("text", { class: "name", x: 0, y: y + 4 }, name),
    low === null
      ? null
      : drawn("line", { x1: x(low), x2: x(high), y1: y, y2: y, stroke: colour, "stroke-width": 3 }),
    mean === null ? null : drawn("circle", { cx: x(mean), cy: y, r: 5, fill: colour }),
    drawn("text", { class: "name", x: width, y: y + 4, "text-anchor": "end" }, fixed(mean, decimals)),
  ];
}

function shortened(text, most) {
  return text.length > most ? text.slice(0, most - 1) + "\u2026" : text;
}

function winMatrix(ordered, model, metric) {
  const pairs = new Map(
    report.pairs
      .filter((p) => p.model === model && p.metric === metric)
      .map((p) => [JSON.stringify([p.method, p.other]), p]),
  );
  const heads = ordered.map((method) => element("th", { scope: "col" }, titleOf(method)));
  const rows = ordered.map((row) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, titleOf(row)),
      ordered.map((column) => winCell(pairs.get(JSON.stringify([row, column])))),
    ),
  );
  return element(
    "table",
    { class: "wins" },
    element("thead", {}, element("tr", {}, element("td", {}), heads)),
    element("tbody", {}, rows),
  );
}

function winCell(pair) {
  if (!pair || pair.wins === null) return element("td", {}, "");
  const strength = Math.abs(pair.wins - 0.5) * 1.1;
  const colour = pair.wins >= 0.5 ? "--better" : "--worse";
  return element(
    "td",
    {
      class: pair.distinct ? false : "even",
      style: pair.n < report.min_images
        ? false
        : `background: rgba(var(${colour}), ${strength.toFixed(2)})`,
      title: `${titleOf(pair.method)} against ${titleOf(pair.other)}, ${pair.n} images`,
    },
    `${Math.round(100 * pair.wins)}%`,
  );
}
