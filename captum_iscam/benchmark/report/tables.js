// Sortable tables: means, differences to a method, costs.

// A column has a title, a unit, value(row) to sort by, cell(row), and whether a first
// click puts high values on top. Values that are missing stay at the end.
function sortableTable(place, columns, rows, footer = []) {
  const body = element("tbody");
  const heads = columns.map((column, i) =>
    element(
      "th",
      { scope: "col" },
      element("button", { type: "button", click: () => sort(i) }, column.title),
      column.unit ? element("span", { class: "unit" }, column.unit) : null,
    ),
  );

  function fill(ordered) {
    body.replaceChildren(
      ...ordered.map((row) => element("tr", {}, columns.map((column) => column.cell(row)))),
    );
  }

  function sort(i) {
    const before = heads[i].getAttribute("aria-sort");
    const first = columns[i].highFirst ? "descending" : "ascending";
    const second = columns[i].highFirst ? "ascending" : "descending";
    const order = before === first ? second : first;
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[i].setAttribute("aria-sort", order);
    fill(sorted(rows, columns[i].value, order === "ascending"));
  }

  fill(rows);
  place.replaceChildren(
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, heads)),
      body,
      footer.length ? element("tfoot", {}, footer) : null,
    ),
  );
}

function sorted(rows, value, ascending) {
  const known = rows.filter((row) => value(row) !== null);
  known.sort((a, b) => {
    const [x, y] = ascending ? [value(a), value(b)] : [value(b), value(a)];
    return typeof x === "string" ? x.localeCompare(y) : x - y;
  });
  return [...known, ...rows.filter((row) => value(row) === null)];
}

function methodColumn() {
  return {
    title: "Method",
    value: (method) => titleOf(method),
    cell: (method) => element("th", { scope: "row" }, titleOf(method)),
  };
}

function metricsOf(model) {
  return [...new Set(
    report.means.filter((e) => e.model === model).map((e) => e.metric),
  )];
}

function ends(entry, unit, sign) {
  if (entry.low === null) return null;
  const [low, high] = [entry.low, entry.high].map((end) => number(end, unit, sign));
  return element("span", { class: "ends" }, `[${low}, ${high}]`);
}

function showMeans(model, other) {
  const metrics = metricsOf(model);
  const metricColumn = other ? differenceColumn : meanColumn;
  const columns = [methodColumn(), ...metrics.map((m) => metricColumn(model, m, other))];
  const footer = ["n", "missing", "undefined"]
    .map((field) => countsRow(model, metrics, field))
    .filter((row) => row !== null);
  sortableTable(byId("means-table"), columns, methods, footer);
  byId("means-key").textContent = other
    ? `Mean of the method less that of ${titleOf(other)} on the same images, with the ` +
      "paired interval. Shaded where the interval does not hold zero: green is better " +
      `than ${titleOf(other)}, orange is worse.`
    : "Bold: best mean. ~ : these images do not tell the method from the best one, the " +
      "interval of their paired difference holds zero.";
}

function meanColumn(model, metric) {
  const { unit, higher_is_better: highFirst } = report.run.metrics[metric];
  const found = entriesOf("means", model, metric);
  return {
    title: words(metric),
    unit: unitOf(metric),
    highFirst,
    value: (method) => found.get(method).mean,
    cell: (method) => {
      const entry = found.get(method);
      const text = number(entry.mean, unit) + (entry.level_with_best ? " ~" : "");
      const strong = element("span", { class: entry.best ? "best" : false }, text);
      return element("td", {}, strong, ends(entry, unit));
    },
  };
}

function differenceColumn(model, metric, other) {
  const { unit, higher_is_better: highFirst } = report.run.metrics[metric];
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
      const text = number(pair.mean, unit, "+");
      const shade = { class: holdsZero(pair) ? false : better };
      return element("td", shade, text, ends(pair, unit, "+"));
    },
  };
}

function entriesOf(list, model, metric) {
  return new Map(
    report[list]
      .filter((e) => e.model === model && e.metric === metric)
      .map((e) => [e.method, e]),
  );
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

function showCosts(model) {
  const costs = report.costs.filter((e) => e.model === model);
  byId("costs").hidden = costs.length === 0;
  const columns = [...new Set(costs.map((e) => e.metric))].flatMap((metric) => {
    const found = entriesOf("costs", model, metric);
    return ["median", "mean"].map((field) => {
      const value = (method) => found.get(method)?.[field] ?? null;
      const cell = (method) => element("td", {}, quantity(value(method)));
      return { title: words(metric), unit: field, value, cell };
    });
  });
  sortableTable(byId("costs-table"), [methodColumn(), ...columns], methods);
}
