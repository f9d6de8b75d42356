// The images with all maps side by side, filtered, ordered and in pages.

const paging = { page: 0 };
let latest = 0;

registerTab({
  id: "images",
  title: "Images",
  order: 50,

  build(place, redraw) {
    const fromTheStart = () => {
      paging.page = 0;
      redraw();
    };
    const showPage = () => {
      redraw();
      byId("images").scrollIntoView();
    };
    const choices = (id, change, ...options) => {
      const select = element("select", { id, change });
      fillSelect(select, options);
      return select;
    };
    const setView = () => {
      byId("gallery").dataset.view = byId("view").value;
    };
    const predictions = [["", "all"], ["right", "as labelled"], ["wrong", "not as labelled"]];
    const orders = [
      ["run", "as in the run"],
      ["most", "methods disagree most"],
      ["least", "methods agree most"],
    ];
    const views = [["over", "over the image"], ["alone", "alone"], ["none", "hidden"]];
    place.append(
      element("p", { class: "about" }, report.disagreement),
      element(
        "form",
        { id: "filters", class: "controls" },
        element("label", {}, "Class ", choices("class", fromTheStart)),
        element("label", {}, "Prediction ", choices("prediction", fromTheStart, ...predictions)),
        element("label", {}, "Order ", choices("order", fromTheStart, ...orders)),
        element("label", {}, "Value ", choices("value", redraw)),
        element("label", {}, "Maps ", choices("view", setView, ...views)),
        opacitySlider(),
      ),
      element("p", { id: "status", role: "status" }),
      pager(paging, showPage),
      element("div", { id: "gallery" }),
      pager(paging, showPage),
    );
  },

  async draw(place, model) {
    offerMetrics(byId("value"), model);
    // Of several calls only the last one draws: files may arrive in any order.
    const turn = ++latest;
    try {
      const images = await load("images");
      const seen = await load(`model${models.indexOf(model)}`);
      if (turn !== latest) return;
      offerClasses(model, images.map((image, i) => groupOf(image, seen[i])));
      const chosen = choose(images, seen);
      const shown = onPage(chosen, paging);
      const values = await Promise.all(shown.map((i) => valuesOf(model, i)));
      if (turn !== latest) return;
      byId("gallery").dataset.view = byId("view").value;
      const entries = shown.map((i) => entryOf(model, images[i], seen[i]));
      const large = entries.filter((entry) => entry?.maps.length);
      const enlarge = (image, method) =>
        openViewer(large, large.findIndex((entry) => entry.id === image.id), method);
      byId("gallery").replaceChildren(
        ...shown.map((i, j) => card(model, images[i], seen[i], values[j], enlarge)),
      );
      showPager(chosen, paging);
    } catch (error) {
      byId("status").textContent = error.message;
    }
  },
});

function label(index) {
  return report.classes[index] ?? `class ${index}`;
}

// An image without a label is grouped by the class that was explained.
function groupOf(image, seen) {
  return image.group ?? (seen ? label(seen.target) : null);
}

function offerClasses(model, groups) {
  const select = byId("class");
  if (select.dataset.model === model) return;
  select.dataset.model = model;
  const counts = new Map();
  for (const group of groups) {
    if (group !== null) counts.set(group, (counts.get(group) ?? 0) + 1);
  }
  const before = select.value;
  const offered = [...counts.keys()].sort();
  fillSelect(select, [
    ["", "all"],
    ...offered.map((group) => [group, `${group} (${counts.get(group)})`]),
  ]);
  select.value = counts.has(before) ? before : "";
}

function choose(images, seen) {
  const group = byId("class").value;
  const prediction = byId("prediction").value;
  const order = byId("order").value;
  const chosen = [...images.keys()].filter((i) => {
    if (group !== "" && groupOf(images[i], seen[i]) !== group) return false;
    if (prediction === "") return true;
    const known = seen[i] !== null && images[i].label !== null;
    return known && (seen[i].prediction === images[i].label) === (prediction === "right");
  });
  if (order === "run") return chosen;
  return sorted(chosen, (i) => seen[i]?.disagreement ?? null, order === "least");
}

async function valuesOf(model, i) {
  const part = Math.floor(i / report.part);
  const values = await load(`model${models.indexOf(model)}_part${part}`);
  return values[i % report.part];
}

function card(model, image, seen, values, enlarge) {
  const head = element("h3", {}, image.id);
  if (image.error !== null) {
    return element("article", { class: "card" }, head, element("p", {}, image.error));
  }
  const metric = byId("value").value;
  const at = metricsOf(model).indexOf(metric);
  const figures = methods.map((method, j) =>
    figure(
      model, image, method, metric, values?.[j]?.[at] ?? null, bestOf(model, values, at, metric),
      seen !== null && !seen.without.includes(method) ? enlarge : null,
    ),
  );
  const plain = element(
    "figure",
    {},
    picture(box(image), null, `Image ${image.id}`),
    element("figcaption", {}, "Image"),
  );
  return element(
    "article",
    { class: "card" },
    head,
    element("p", {}, facts(image, seen)),
    element("div", { class: "maps" }, plain, figures),
    values ? allValues(model, values) : null,
  );
}

function facts(image, seen) {
  const parts = [image.group === null ? "no label" : image.group];
  if (seen === null) return [...parts, ", not run on this network yet"];
  const wrong = image.label !== null && seen.prediction !== image.label;
  parts.push(element(
    "span", { class: wrong ? "wrong" : false }, `, predicted ${label(seen.prediction)}`,
  ));
  parts.push(`, explained ${label(seen.target)}`);
  const symbol = report.run.settings?.score === "identity" ? "score" : "p";
  if (seen.probability !== null) {
    parts.push(` (${symbol} = ${number(seen.probability)})`);
  }
  if (seen.disagreement !== null) parts.push(`, disagreement ${number(seen.disagreement)}`);
  return parts;
}

function box(image) {
  const src = `images/${encodeURIComponent(image.key)}.jpg`;
  return image.picture ? { src, width: 1, height: 1 } : null;
}

function mapFile(model, method, image) {
  return `maps/${[report.folders[model], method, image.key].map(encodeURIComponent).join("/")}.png`;
}

// What the dialog shows of an image; null where it was not run.
function entryOf(model, image, seen) {
  if (seen === null) return null;
  const about = element("p", {}, facts(image, seen)).textContent;
  const maps = methods.filter((method) => !seen.without.includes(method)).map((method) =>
    ({ id: method, label: titleOf(method), src: mapFile(model, method, image) }),
  );
  return { id: image.id, title: image.id, about, image: box(image), maps };
}

function figure(model, image, method, metric, value, best, enlarge) {
  const alt = `Map of ${titleOf(method)} for image ${image.id}`;
  const map = enlarge ? { src: mapFile(model, method, image) } : null;
  const shown = picture(box(image), map, alt, enlarge && (() => enlarge(image, method)));
  if (!map) shown.append(element("span", { class: "none" }, "no map"));
  const unit = metric && report.run.metrics[metric].unit;
  const bold = value !== null && value === best;
  return element(
    "figure",
    {},
    shown,
    element(
      "figcaption", {}, titleOf(method),
      metric ? element("span", { class: bold ? "best" : false }, number(value, unit)) : null,
    ),
  );
}

function bestOf(model, values, at, metric) {
  const known = (values ?? []).map((row) => row[at]).filter((v) => v !== null && v !== undefined);
  if (!metric || !known.length || cannotJudge(model, metric)) return null;
  const higher = report.run.metrics[metric].higher_is_better;
  return higher ? Math.max(...known) : Math.min(...known);
}

function allValues(model, values) {
  const table = element("div", { class: "scroll" });
  const metrics = metricsOf(model);
  const fill = () => {
    const columns = metrics.map((metric, at) => {
      const { unit, higher_is_better: highFirst } = report.run.metrics[metric];
      const value = (method) => values[methods.indexOf(method)][at];
      const cell = (method) => element("td", {}, number(value(method), unit));
      return { title: words(metric), unit: unitOf(metric), highFirst, value, cell };
    });
    sortableTable(table, [methodColumn(), ...columns], methods);
  };
  return element(
    "details", { toggle: fill }, element("summary", {}, "All values of this image"), table,
  );
}
