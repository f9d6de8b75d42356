// Insertion and deletion curves: means with bands, drawn as SVG.
//
// How a plot is drawn:
//
// 1. The plot is as wide as a column of the page, and is drawn again when that changes.
//    Scaling a drawing would scale its text too.
// 2. Two functions map a share of pixels to x and a score to y. y begins at 0 and ends at
//    the first tick above all bands.
// 3. For each method a filled path goes along the upper ends of the intervals and back
//    along the lower ends. All bands come before all lines, so that none covers a line.
// 4. For each method a path goes through the means, in the method's colour and dashes.
// 5. A pointer over the plot, or the arrow keys, move a vertical line from point to point.
//    A box next to it lists the scores there, best first.
// 6. The legend's buttons hide and show methods in all plots. Pointing at a button or a
//    curve raises that method: the others fade, and its band is shown.
// 7. Bands of more than three methods would cover each other. Then only the band of the
//    method that is raised is shown.
//
// No chart library: elements.js says why.

const PLOT = { width: 600, height: 360, left: 46, right: 24, top: 34, bottom: 42 };
const hidden = new Set();

registerTab({
  id: "curves",
  title: "Curves",
  order: 30,
  fitted: true,

  build(place, redraw) {
    place.append(
      element(
        "p",
        { class: "about" },
        "Mean score of the target while the pixels a map ranks first are inserted " +
        "(insertion) or deleted (deletion); bands are intervals of the mean at each " +
        "point. Point at a plot or step through it with the arrow keys. A method's " +
        "button hides its curve; with more than three curves, point at a curve or a button " +
        "to see its band.",
      ),
      element(
        "div",
        { id: "legend", class: "legend", role: "group", "aria-label": "Methods shown" },
        methods.map((method) => legendButton(method, redraw)),
        showAll("All", true, redraw),
        showAll("None", false, redraw),
      ),
      element("div", { id: "plots", class: "columns" }),
    );
  },

  draw(place, model) {
    const metrics = [...new Set(
      report.curves.filter((c) => c.model === model).map((c) => c.metric),
    )].sort().reverse();
    byId("curves").hidden = metrics.length === 0;
    const column = element("div");
    byId("plots").replaceChildren(column);
    PLOT.width = widthOf(column);
    byId("plots").replaceChildren(
      ...metrics.map((metric) => plot(
        metric,
        [...entriesOf("curves", model, metric).values()].filter((c) => !hidden.has(c.method)),
      )),
    );
  },
});

function showAll(title, shown, redraw) {
  const click = () => {
    methods.forEach((method) => (shown ? hidden.delete(method) : hidden.add(method)));
    markPressed();
    redraw();
  };
  return element("button", { type: "button", class: "plain", click }, title);
}

function markPressed() {
  for (const button of document.querySelectorAll("#legend [data-method]")) {
    button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.method)));
  }
}

function legendButton(method, redraw) {
  const toggle = () => {
    hidden.has(method) ? hidden.delete(method) : hidden.add(method);
    markPressed();
    redraw();
    highlight(hidden.has(method) ? null : method);
  };
  const raise = () => highlight(method);
  const lower = () => highlight(null);
  const listeners = {
    click: toggle, mouseenter: raise, focus: raise, mouseleave: lower, blur: lower,
  };
  return element(
    "button",
    { type: "button", "aria-pressed": "true", "data-method": method, ...listeners },
    swatch(method),
    titleOf(method),
  );
}

function highlight(method) {
  for (const path of document.querySelectorAll("#plots path")) {
    const other = method !== null && path.dataset.method !== method;
    path.classList.toggle("faded", other);
    path.classList.toggle("raised", method !== null && !other);
  }
}

// Steps 2 to 5.
function plot(metric, curves) {
  const { width, height, left, right, top, bottom } = PLOT;
  const most = Math.max(0.01, ...curves.flatMap((c) => c.high.map((h, i) => h ?? c.mean[i])));
  const ticks = evenTicks(0, most, 5);
  const x = (share) => left + share * (width - left - right);
  const y = (score) =>
    height - bottom - (score / ticks[ticks.length - 1]) * (height - top - bottom);
  const cursor = drawn("line", {
    class: "axis", x1: 0, x2: 0, y1: top, y2: height - bottom, visibility: "hidden",
  });
  const tip = element("div", { class: "tip", hidden: true });
  const svg = drawn(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      tabindex: "0",
      "aria-label": `Mean ${words(metric)} curves of ${curves.length} methods`,
    },
    axes(metric, ticks, x, y),
    curves.map((curve) => band(curve, x, y)),
    curves.map((curve) => line(curve, x, y)),
    cursor,
  );
  const box = element("div", { class: curves.length > 3 ? "plot many" : "plot" }, svg, tip);
  followPointer(svg, curves, x, y, cursor, tip, metric);
  return box;
}

function axes(metric, ticks, x, y) {
  const { width, height, left, right } = PLOT;
  const { higher_is_better: higher } = report.run.metrics[metric];
  const shares = [0, 0.2, 0.4, 0.6, 0.8, 1];
  const middle = (left + width - right) / 2;
  const better = { true: "\u2191 more area is better", false: "\u2193 less area is better" };
  const title = `${words(metric)} (${better[higher] ?? "neither is better"})`;
  return [
    drawn("text", { class: "name", x: left, y: 16 }, title),
    ticks.map((tick) => [
      drawn("line", { class: "axis", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
      drawn("text", { x: left - 7, y: y(tick) + 4, "text-anchor": "end" }, tickText(tick, ticks)),
    ]),
    shares.map((share) =>
      drawn("text", { x: x(share), y: height - 24, "text-anchor": "middle" }, `${100 * share}%`),
    ),
    drawn(
      "text",
      { x: middle, y: height - 6, "text-anchor": "middle" },
      `share of pixels ${metric === "deletion" ? "deleted" : "inserted"}`,
    ),
  ];
}

// Step 3. A single image has no interval and no band.
function band({ method, fractions, low, high }, x, y) {
  if (low.some((value) => value === null)) return null;
  const above = fractions.map((share, i) => `${x(share).toFixed(1)} ${y(high[i]).toFixed(1)}`);
  const below = fractions.map((share, i) => `${x(share).toFixed(1)} ${y(low[i]).toFixed(1)}`);
  const d = `M${above.join("L")}L${below.reverse().join("L")}Z`;
  return drawn("path", { class: "band", d, fill: colourOf(method), "data-method": method });
}

// Step 4.
function line({ method, fractions, mean }, x, y) {
  const points = fractions.map((share, i) => `${x(share).toFixed(1)} ${y(mean[i]).toFixed(1)}`);
  return drawn("path", {
    class: "curve",
    d: `M${points.join("L")}`,
    stroke: colourOf(method),
    "stroke-dasharray": dashOf(method),
    "data-method": method,
  });
}

// Step 5.
function followPointer(svg, curves, x, y, cursor, tip, metric) {
  if (!curves.length) return;
  const { fractions } = curves[0];
  const higher = report.run.metrics[metric].higher_is_better;
  let at = 0;

  function show(i) {
    at = Math.min(fractions.length - 1, Math.max(0, i));
    const position = x(fractions[at]);
    cursor.setAttribute("x1", position);
    cursor.setAttribute("x2", position);
    cursor.setAttribute("visibility", "visible");
    const ordered = sorted(curves, (curve) => curve.mean[at], !higher);
    tip.replaceChildren(
      element("strong", {}, `${(100 * fractions[at]).toFixed(0)}%`),
      ...ordered.map((curve) =>
        element(
          "div", {}, swatch(curve.method),
          `${number(curve.mean[at])} ${titleOf(curve.method)}`,
        ),
      ),
    );
    tip.hidden = false;
    const onLeft = fractions[at] > 0.5; // the box, of the line
    const share = (100 * position) / PLOT.width;
    tip.style.left = onLeft ? "auto" : `${share + 2}%`;
    tip.style.right = onLeft ? `${100 - share + 2}%` : "auto";
  }

  function hide() {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
    highlight(null);
  }

  // The method of the curve next to a height, if it is near.
  function methodAt(height) {
    const away = (curve) => Math.abs(y(curve.mean[at]) - height);
    const nearest = sorted(curves, away, true)[0];
    return away(nearest) < 16 ? nearest.method : null;
  }

  svg.addEventListener("pointermove", (event) => {
    const { left, top, width } = svg.getBoundingClientRect();
    const scale = PLOT.width / width;
    const share = ((event.clientX - left) * scale - x(0)) / (x(1) - x(0));
    show(Math.round(share * (fractions.length - 1)));
    highlight(methodAt((event.clientY - top) * scale));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      event.preventDefault();
      show(tip.hidden ? at : at + step);
    }
  });
}
