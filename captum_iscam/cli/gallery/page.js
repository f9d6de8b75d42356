// The page of explained images: choosers above, a card for each image below.

const paging = { page: 0 };

function build() {
  const { images, unreadable } = report;
  const known = [...new Set(images.map((image) => image.model))];
  byId("facts").textContent =
    [count(images.length, "image"), ...known, ...methods.map(titleOf)].join(" \u00b7 ");
  if (unreadable.length) {
    byId("alerts").append(element(
      "p", { class: "alert" }, `Records that cannot be read: ${unreadable.join(", ")}.`,
    ));
  }
  byId("main").append(
    element(
      "form",
      { id: "choosers", class: "controls" },
      chooser("class", "Class", classes(), fromTheStart),
      chooser("method", "Method", [["", "all"], ...titles()], show),
      chooser("other", "Compare with", [["", "no other"], ...titles()], compare),
      chooser("view", "Maps", [["over", "over the image"], ["alone", "alone"], ["none", "hidden"]], setView),
      opacitySlider(),
    ),
    scales(),
    element("p", { id: "status", role: "status" }),
    pager(paging, turnPage),
    element("div", { id: "gallery", "data-view": "over" }),
    pager(paging, turnPage),
  );
  show();
}

function chooser(id, text, options, change) {
  const select = element("select", { id, change });
  fillSelect(select, options);
  return element("label", {}, `${text} `, select);
}

function titles() {
  return methods.map((method) => [method, titleOf(method)]);
}

// Names of classes, each with the number of images for which it is explained. A name may
// be anything, so that choices have the place in this list as their value.
const names = [...new Set(report.images.flatMap((image) => image.targets.map((t) => t.name)))]
  .sort((a, b) => a.localeCompare(b));

function classes() {
  const found = (name) =>
    report.images.filter((image) => image.targets.some((t) => t.name === name)).length;
  return [
    ["", "all"],
    ["first", "the first of each image"],
    ...names.map((name, i) => [String(i), `${name} (${found(name)})`]),
  ];
}

function scales() {
  const scale = (text, name) =>
    element("span", { class: `scale of-${name}` }, element("i", { class: name }), text);
  return element(
    "div",
    { class: "scales" },
    scale("0 to the largest value of each map, without outliers", "heat"),
    report.images.some((image) => image.maps.some((map) => map.delta))
      ? element("span", { class: "of-delta" }, "delta: how far a map probably is from that of all passes, not how right it is")
      : null,
    scale("difference: red where the first is stronger, blue where the other is; full colour from half of the scale on", "difference"),
  );
}

function fromTheStart() {
  paging.page = 0;
  show();
}

function turnPage() {
  show();
  byId("status").scrollIntoView();
}

function setView() {
  byId("gallery").dataset.view = byId("view").value;
}

// Two methods are compared, so that one has to be chosen.
function compare() {
  const [method, other] = [byId("method"), byId("other")];
  if (other.value && !method.value) {
    method.value = methods.find((name) => name !== other.value) ?? other.value;
  }
  show();
}

function show() {
  document.querySelector(".of-difference").hidden = !byId("other").value;
  const chosen = report.images.filter((image) => targetsOf(image).length);
  const enlarge = (image, ...maps) =>
    openViewer(chosen.map(entryOf), chosen.indexOf(image), ...maps);
  byId("gallery").replaceChildren(
    ...onPage(chosen, paging).map((image) => card(image, enlarge)),
  );
  showPager(chosen, paging);
}

// The places of those targets of an image that are chosen.
function targetsOf(image) {
  const value = byId("class").value;
  const places = [...image.targets.keys()];
  if (value === "") return places;
  if (value === "first") return places.slice(0, 1);
  return places.filter((place) => image.targets[place].name === names[value]);
}

function card(image, enlarge) {
  const size = image.size ? `${image.size.join(" \u00d7 ")}, ` : "";
  return element(
    "article",
    { class: "card" },
    element("h3", {}, image.name),
    element("p", {}, `${image.image}, ${size}${image.model}, layer ${image.layer}`),
    element(
      "div",
      { class: "body" },
      group("input", "", [element(
        "figure", {}, picture(image.input, null, `Input ${image.name}`),
        element("figcaption", {}, "as the model saw it"),
      )]),
      targetsOf(image).map((place) => classGroup(image, place, enlarge)),
    ),
    element(
      "div", { class: "foot" },
      image.links.map(([text, href]) => element("a", { href }, text)),
    ),
    warningsOf(image),
    details(image),
  );
}

function group(title, value, figures, doubt = null) {
  const head = element("h4", {}, `${title} `, element("span", {}, value));
  const said = doubt && element("p", { class: "doubt" }, doubt);
  return element("div", { class: "class" }, head, element("div", {}, figures), said);
}

// Colours are relative to each map's own largest value, so that they look alike whatever
// the model gives a class. A probability below this one is written as 0.000.
const NOT_SUPPORTED =
  "The model gives this class a probability below 0.0005. Colours do not show that: each map has its own scale.";

function isSupported(image, target) {
  return image.score === "identity" || target.value >= 0.0005;
}

function classGroup(image, place, enlarge) {
  const target = image.targets[place];
  const symbol = image.score === "identity" ? "score" : "p";
  const [method, other] = [byId("method").value, byId("other").value];
  const maps = image.maps.filter((map) => map.target === place);
  const find = (name) => maps.find((map) => map.method === name);
  const pair = [find(method), find(other)];
  let figures = maps.filter((map) => !method || map.method === method);
  if (other) figures = pair.filter((map) => map);
  const both = other && pair.every((map) => map);
  // A pair stays a pair when it is enlarged.
  const others = (map) => (both ? pair.filter((one) => one !== map).map(idOf) : []);
  const shown = figures.map((map) =>
    figureOf(image, map, () => enlarge(image, idOf(map), ...others(map))),
  );
  if (both) shown.push(differenceFigure(image, pair, enlarge));
  const value = `${symbol} = ${number(target.value)}`;
  return group(target.name, value, shown, isSupported(image, target) ? null : NOT_SUPPORTED);
}

function figureOf(image, map, enlarge) {
  const alt = `Map of ${titleOf(map.method)} for ${image.targets[map.target].name}, image ${image.name}`;
  return element(
    "figure",
    {},
    picture(image.input, map, alt, enlarge),
    element(
      "figcaption", {}, titleOf(map.method),
      map.empty ? element("span", { class: "doubt" }, "zero everywhere") : null,
      map.delta ? element("span", {}, map.delta) : null,
      linksOf(map),
    ),
  );
}

function differenceFigure(image, [first, second], enlarge) {
  const label = `${titleOf(first.method)} \u2212 ${titleOf(second.method)}`;
  return element(
    "figure",
    {},
    picture(
      image.input, { first: first.src, second: second.src }, `${label}, image ${image.name}`,
      () => enlarge(image, idOf(first), idOf(second), true),
    ),
    element("figcaption", {}, label),
  );
}

function idOf(map) {
  return `${map.target} ${map.method}`;
}

// What the dialog shows of an image.
function entryOf(image) {
  const maps = image.maps.map((map) => ({
    ...map,
    id: idOf(map),
    label: `${titleOf(map.method)}, ${image.targets[map.target].name}`,
  }));
  return { title: image.name, about: image.image, image: image.input, maps };
}

// What methods warn of, each text once. One call makes the maps of all classes.
function warningsOf(image) {
  const said = new Map();
  for (const call of image.calls) {
    for (const text of call.warnings) said.set(text, [...(said.get(text) ?? []), call.title]);
  }
  const lines = [...said].map(([text, titles]) =>
    element("li", {}, `${titles.join(", ")}: ${text}`),
  );
  return lines.length ? element("ul", { class: "alert warnings" }, lines) : null;
}

// The cost of each method, for all classes.
function details(image) {
  const table = element("div", { class: "scroll" });
  const numberColumn = (title, name) => ({
    title,
    value: (call) => call[name],
    cell: (call) => element("td", {}, quantity(call[name])),
  });
  const method = {
    title: "Method",
    value: (call) => call.title,
    cell: (call) => element("th", { scope: "row" }, call.title),
  };
  const columns = [method, numberColumn("Seconds", "seconds"), numberColumn("Forward passes", "forward_passes")];
  return element(
    "details",
    { toggle: () => sortableTable(table, columns, image.calls) },
    element("summary", {}, "Cost"),
    table,
  );
}

build();
