// What galleries share: pages of cards, maps over their images, how opaque the maps are,
// and the dialog that enlarges them. report.html and the page of `captum-iscam explain`
// use it.
//
// An image here is {src, width, height}, or null where it is missing; its box has these
// sides. A map is {src, alt}, or {first, second, alt} for the difference of two. An entry of the
// dialog is {title, about, image, maps}, each of the maps {id, label, src, links}.

// Pages.

const PAGE = 10;

// Two of them, above and below the cards. Built once, so that a button that is pressed
// keeps the focus while pages change. `paging` is {page}; `show` draws it anew.
function pager(paging, show) {
  const turnTo = (to) => {
    paging.page = Math.max(0, to);
    show();
  };
  const typed = (event) => turnTo((Number.parseInt(event.target.value, 10) || 1) - 1);
  const button = (text, step) =>
    element("button", { type: "button", click: () => turnTo(paging.page + step) }, text);
  // A number that is being typed is kept until it is taken, whatever is drawn meanwhile.
  const field = element("input", {
    type: "number", min: 1,
    input: () => { field.dataset.typing = ""; },
    change: (event) => { delete field.dataset.typing; typed(event); },
    blur: () => { delete field.dataset.typing; },
  });
  return element(
    "div",
    { class: "pager" },
    button("Previous", -1),
    element("label", {}, "Page ", field),
    button("Next", 1),
  );
}

// Returns those of the chosen that are on the page, which is at most the last one.
function onPage(chosen, paging) {
  paging.page = Math.min(paging.page, lastPage(chosen));
  return chosen.slice(paging.page * PAGE, (paging.page + 1) * PAGE);
}

function lastPage(chosen) {
  return Math.max(0, Math.ceil(chosen.length / PAGE) - 1);
}

function showPager(chosen, paging) {
  const last = lastPage(chosen);
  byId("status").textContent =
    `${count(chosen.length, "image")}, page ${paging.page + 1} of ${last + 1}`;
  for (const place of document.querySelectorAll(".pager")) {
    const [previous, next] = place.querySelectorAll("button");
    const field = place.querySelector("input");
    previous.disabled = paging.page === 0;
    next.disabled = paging.page === last;
    field.max = last + 1;
    if (!("typing" in field.dataset)) field.value = paging.page + 1;
  }
}

// Maps.

// The image with a map over it, or without one; with `enlarge` it is a button.
function picture(image, map, alt, enlarge) {
  const box = {
    class: "picture",
    style: `aspect-ratio: ${image?.width ?? 1} / ${image?.height ?? 1}`,
  };
  const button = { type: "button", title: "Enlarge", click: enlarge ?? null };
  return element(
    enlarge ? "button" : "div",
    enlarge ? { ...box, ...button } : box,
    image ? element("img", { src: image.src, alt: map ? "" : alt, loading: "lazy" }) : null,
    map ? layer(map, alt) : null,
  );
}

function layer(map, alt) {
  if (map.src) return element("img", { class: "map", src: map.src, alt, loading: "lazy" });
  // (1 + first - second) / 2: the second is inverted, and half transparent.
  return element(
    "span",
    { class: "map difference", role: "img", "aria-label": alt },
    element("img", { src: map.first, alt: "", loading: "lazy" }),
    element("img", { class: "second", src: map.second, alt: "", loading: "lazy" }),
  );
}

// All sliders of a page show the same opacity, in percent.
let opacity = 80;

function setOpacity(percent) {
  opacity = percent;
  document.documentElement.style.setProperty("--opacity", percent / 100);
  for (const slider of document.querySelectorAll(".opacity")) slider.value = percent;
}

function opacitySlider() {
  const slider = element("input", {
    type: "range", class: "opacity", min: 0, max: 100, value: opacity,
    input: (event) => setOpacity(Number(event.target.value)),
  });
  return element("label", {}, "Opacity ", slider);
}

// The dialog.

const viewer = { entries: [], at: 0, first: "", second: "", difference: false };

// Enlarges a map of an entry, next to or less another one if `second` is given. The
// arrow keys go on to the other entries, and Escape closes the dialog.
function openViewer(entries, at, first, second = "", difference = false) {
  Object.assign(viewer, { entries, at, first, second, difference });
  if (!byId("viewer")) document.body.append(buildViewer());
  const view = document.querySelector("[data-view]").dataset.view;
  byId("viewer").dataset.view = view === "alone" ? view : "over";
  showViewer();
  byId("viewer").showModal();
}

function buildViewer() {
  const chooser = (id, text, change) =>
    element("label", {}, `${text} `, element("select", {
      id, change: (event) => { change(event.target.value); showViewer(); },
    }));
  const button = (id, text, click) => element("button", { type: "button", id, click }, text);
  return element(
    "dialog",
    { id: "viewer", "aria-labelledby": "viewer-title", keydown: turnByKey },
    element(
      "div",
      { class: "viewer-head" },
      element("h2", { id: "viewer-title" }),
      button("viewer-close", "Close", () => byId("viewer").close()),
    ),
    element("p", { id: "viewer-about" }),
    element("div", { id: "viewer-stage" }),
    element(
      "div",
      { class: "controls" },
      button("viewer-previous", "Previous image", () => turnViewer(-1)),
      button("viewer-next", "Next image", () => turnViewer(1)),
      chooser("viewer-first", "Map", (value) => { viewer.first = value; }),
      chooser("viewer-second", "Compare with", (value) => { viewer.second = value; }),
      chooser("viewer-how", "as", (value) => { viewer.difference = value === "difference"; }),
      opacitySlider(),
    ),
  );
}

function turnByKey(event) {
  if (event.target.matches("select, input")) return;
  if (event.key === "ArrowLeft") turnViewer(-1);
  if (event.key === "ArrowRight") turnViewer(1);
}

function turnViewer(step) {
  const to = viewer.at + step;
  if (!viewer.entries[to]) return;
  viewer.at = to;
  showViewer();
}

function showViewer() {
  const entry = viewer.entries[viewer.at];
  const find = (id) => entry.maps.find((map) => map.id === id);
  const first = find(viewer.first) ?? entry.maps[0];
  const second = find(viewer.second);
  byId("viewer-title").textContent = entry.title;
  byId("viewer-about").textContent = entry.about;
  byId("viewer-previous").disabled = !viewer.entries[viewer.at - 1];
  byId("viewer-next").disabled = !viewer.entries[viewer.at + 1];
  const maps = entry.maps.map((map) => [map.id, map.label]);
  fillSelect(byId("viewer-first"), maps);
  fillSelect(byId("viewer-second"), [["", "no other"], ...maps]);
  fillSelect(byId("viewer-how"), [["pair", "side by side"], ["difference", "difference"]]);
  byId("viewer-first").value = first.id;
  byId("viewer-second").value = second?.id ?? "";
  byId("viewer-how").value = viewer.difference ? "difference" : "pair";
  byId("viewer-how").disabled = !second;
  const shown = second && viewer.difference
    ? [differenceOf(first, second)]
    : [first, second].filter((map) => map);
  byId("viewer-stage").replaceChildren(...shown.map((map) => element(
    "figure",
    { style: `--aspect: ${entry.image ? entry.image.width / entry.image.height : 1}` },
    picture(entry.image, map, `${map.label}: ${entry.title}`),
    element("figcaption", {}, map.label, linksOf(map)),
  )));
}

function differenceOf(first, second) {
  const label = `${first.label} \u2212 ${second.label}`;
  return { first: first.src, second: second.src, label };
}

function linksOf(map) {
  const links = (map.links ?? []).map(([text, href]) => element("a", { href }, text));
  return links.length ? element("span", { class: "links" }, links) : null;
}
