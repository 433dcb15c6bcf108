// Draws the charts of a page with uPlot, from the blocks of JSON that the server wrote beside them.
import { written } from "./units.js";

const { uPlot } = globalThis; // a classic script of base.html: the minified library is no module

const COLOURS = 8;
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 2], [1, 2], [12, 4], [6, 2, 2, 2]];
const HEIGHT = 260;
const drawn = new Map();

function colour(name) {
  // A custom property may hold light-dark(), which only a real element resolves.
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function faded(rgb, share) {
  const [red, green, blue] = rgb.match(/[\d.]+/g);
  return `rgba(${red}, ${green}, ${blue}, ${share})`;
}

function clock(seconds, everyS) {
  const iso = new Date(seconds * 1000).toISOString();
  if (everyS >= 86400) return iso.slice(5, 10);
  return iso.slice(11, 16) === "00:00" ? iso.slice(5, 10) : iso.slice(11, everyS < 60 ? 19 : 16);
}

function stack(series) {
  const sums = [];
  return series.map((one) => one.values.map((value, i) => (sums[i] = (sums[i] ?? 0) + (value ?? 0))));
}

function marksOver(marks, text) {
  return (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = text;
    ctx.setLineDash([4, 4]);
    ctx.textAlign = "left";
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    let lastX = -Infinity;
    for (const { x, label } of marks) {
      const left = plot.valToPos(x, "x", true);
      if (left < bbox.left - 1 || left > bbox.left + bbox.width + 1) continue;
      ctx.beginPath();
      ctx.moveTo(left, bbox.top);
      ctx.lineTo(left, bbox.top + bbox.height);
      ctx.stroke();
      const width = ctx.measureText(label).width;
      const start = left + width + 8 > bbox.left + bbox.width ? left - width - 4 : left + 4;
      if (start > lastX) {
        ctx.fillText(label, start, bbox.top + 12 * devicePixelRatio);
        lastX = start + width + 4 * devicePixelRatio;
      }
    }
    ctx.restore();
  };
}

function nearest(plot, chart) {
  const i = plot.cursor.idx;
  if (i === null || i === undefined) return null;
  const y = plot.posToVal(plot.cursor.top, "y");
  let found = null;
  let least = Infinity;
  chart.series.forEach((one, n) => {
    const shown = plot.data[n + 1][i];
    if (!plot.series[n + 1].show || shown === null || !one.links?.[i]) return;
    // In a stack the area under the pointer counts, else the closest line.
    const distance = chart.stacked ? (shown >= y ? shown - y : Infinity) : Math.abs(shown - y);
    if (distance < least) [least, found] = [distance, one.links[i]];
  });
  return found;
}

// A value without a neighbour makes no line: it is drawn as a point.
function lonely(values) {
  const missing = (i) => (values[i] ?? null) === null;
  return [...values.keys()].filter((i) => !missing(i) && missing(i - 1) && missing(i + 1));
}

function seriesOf(chart, one, n, rows) {
  const hue = colour(`--s${(n % COLOURS) + 1}`);
  const bars = one.shape === "bars";
  const filled = bars || one.shape === "area" || chart.stacked;
  return {
    label: one.name,
    stroke: hue,
    width: bars ? 1 : 2,
    dash: filled ? undefined : DASHES[n % DASHES.length],
    fill: filled ? chart.stacked ? hue : faded(hue, 0.35) : undefined,
    paths: bars ? uPlot.paths.bars({ size: [0.9, 60], align: 1 }) : undefined,
    points: { show: !bars, size: 6, filter: () => lonely(one.values) },
    value: (plot, value, s, i) => (i === null || i === undefined ? "–" : written(rows[n][i], chart.unit, chart.currency)),
  };
}

// Bars stand to the right of their x, so the last one needs a place of its own.
function room({ x, series }) {
  return x.length > 1 && series.some((one) => one.shape === "bars") ? x.at(-1) - x.at(-2) : 0;
}

function options(chart, width) {
  const text = colour("--faint");
  const grid = { stroke: colour("--grid"), width: 1 };
  const axis = { stroke: text, grid, ticks: grid };
  const time = chart.kind === "time";
  const rows = chart.series.map((one) => one.values);
  const order = chart.stacked ? chart.series.map((_, n) => n).reverse() : chart.series.map((_, n) => n);
  return {
    width,
    height: HEIGHT,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
    cursor: { y: false, points: { size: 7 } },
    scales: {
      x: { time, range: (plot, low, high) => [low, high + room(chart)] },
      y: { range: (plot, low, high) => [Math.min(0, low ?? 0), chart.top ?? ((high ?? 0) > 0 ? high * 1.08 : 1)] },
    },
    axes: [
      { ...axis, label: chart.xTitle || undefined, labelSize: 22, values: (plot, splits, i, space, step) => splits.map((x) => (time ? clock(x, step) : written(x, chart.xUnit))) },
      { ...axis, size: (plot, values) => Math.max(48, 18 + 7 * Math.max(0, ...(values ?? []).map((text) => text.length))), values: (plot, splits) => splits.map((y) => written(y, chart.unit, chart.currency)) },
    ],
    series: [
      { label: time ? "UTC" : chart.xTitle, value: time ? "{YYYY}-{MM}-{DD} {HH}:{mm}" : (plot, x) => written(x, chart.xUnit) },
      ...order.map((n) => seriesOf(chart, chart.series[n], n, rows)),
    ],
    hooks: { draw: chart.marks.length ? [marksOver(chart.marks, colour("--text"))] : [] },
    order,
  };
}

function draw(holder) {
  const block = document.getElementById(holder.dataset.chart);
  if (!block) return;
  const chart = JSON.parse(block.textContent);
  drawn.get(holder)?.plot.destroy();
  const settings = options(chart, holder.clientWidth || 600);
  const values = chart.stacked ? stack(chart.series) : chart.series.map((one) => one.values);
  const ordered = { ...chart, series: settings.order.map((n) => chart.series[n]) };
  const plot = new uPlot(settings, [chart.x, ...settings.order.map((n) => values[n])], holder);
  const linked = chart.series.some((one) => one.links.length);
  holder.classList.toggle("linked", linked);
  if (linked) {
    plot.over.addEventListener("click", () => {
      const target = nearest(plot, ordered);
      if (target) location.assign(target);
    });
  }
  drawn.set(holder, { plot });
}

const resizing = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const plot = drawn.get(target)?.plot;
    const width = Math.floor(contentRect.width);
    if (plot && width && plot.width !== width) plot.setSize({ width, height: HEIGHT });
  }
});

export function drawAll(root) {
  for (const [holder, { plot }] of drawn) {
    if (!holder.isConnected) {
      plot.destroy();
      drawn.delete(holder);
    }
  }
  for (const holder of root.querySelectorAll("[data-chart]")) {
    draw(holder);
    resizing.observe(holder);
  }
}
