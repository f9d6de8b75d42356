// A table that a click on a column's title sorts, and what columns of methods share.

// A column has a title, a unit, value(row) to sort by, cell(row), and whether the first
// click puts high values on top. Missing values stay at the end. It may have a note below
// the unit, and its cells may be muted.
function sortableTable(place, columns, rows, footer = []) {
  const body = element("tbody");
  const heads = columns.map((column, i) =>
    element(
      "th",
      { scope: "col" },
      element("button", { type: "button", click: () => sort(i) }, column.title),
      column.unit ? element("span", { class: "unit" }, column.unit) : null,
      column.note ?? null,
    ),
  );

  function cellOf(column, row) {
    const cell = column.cell(row);
    if (column.muted) cell.classList.add("muted");
    return cell;
  }

  function fill(ordered) {
    body.replaceChildren(
      ...ordered.map((row) => element("tr", {}, columns.map((column) => cellOf(column, row)))),
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
