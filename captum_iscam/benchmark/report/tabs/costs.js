// What a map costs: median and mean of seconds and passes, in a sortable table.

registerTab({
  id: "costs",
  title: "Cost",
  heading: "Cost of one map",
  order: 40,

  build(place) {
    place.append(scrolling("costs-table", "Cost"));
  },

  draw(place, model) {
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
  },
});
