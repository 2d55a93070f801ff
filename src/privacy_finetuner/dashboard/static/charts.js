// Draws each figure's table with uPlot. The table stays: it is the picture in words.
"use strict";

const charts = new Map();

// A colour of the design system as this theme has it.
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

const number = new Intl.NumberFormat(document.documentElement.lang, { maximumSignificantDigits: 4 });

// Days and hours in the reader's language and in UTC, as everywhere on the pages.
function timeLabels(splits, increment) {
  const day = 86400;
  const style = increment >= 300 * day ? { year: "numeric" } : increment >= 28 * day ? { month: "short", year: "2-digit" } : increment >= day ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit", hour12: false };
  const format = new Intl.DateTimeFormat(document.documentElement.lang, { ...style, timeZone: "UTC" });
  return splits.map((stamp) => format.format(new Date(stamp * 1000)));
}

function read(figure) {
  const heads = Array.from(figure.querySelectorAll("details.figures th[data-draw]"));
  const rows = Array.from(figure.querySelectorAll("tbody tr[data-at]"));
  const columns = heads.map((_, place) =>
    rows.map((row) => {
      const text = row.querySelectorAll("td[data-v]")[place].dataset.v;
      return text === "" ? null : Number(text);
    }),
  );
  return { heads, data: [rows.map((row) => Number(row.dataset.at)), ...columns] };
}

function seriesOf(head) {
  const draw = head.dataset.draw;
  const stroke = draw === "cap" ? colour("--soft") : colour(`--series-${head.dataset.colour}`);
  const shared = { label: head.textContent, value: (_, v) => (v == null ? "–" : number.format(v)), points: { show: false } };
  switch (draw) {
    case "step":
      return { ...shared, stroke, width: 2, paths: uPlot.paths.stepped({ align: 1 }) };
    case "cap":
      return { ...shared, stroke, width: 1.5, dash: [5, 5], paths: uPlot.paths.stepped({ align: 1 }) };
    case "low":
    case "high":
      return { ...shared, stroke: "transparent", width: 0 };
    case "dots":
      return { ...shared, stroke, width: 0, paths: () => null, points: { show: true, size: 9, fill: stroke, stroke: colour("--surface"), width: 1.5 } };
    default:
      return { ...shared, stroke, width: 2, points: { show: (u, i) => u.data[i].filter((v) => v != null).length <= 24, size: 6, fill: stroke } };
  }
}

function axis(extra) {
  return {
    stroke: colour("--soft"),
    font: "12px " + getComputedStyle(document.body).fontFamily,
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1, size: 4 },
    ...extra,
  };
}

function draw(figure) {
  const plot = figure.querySelector(".plot");
  const old = charts.get(figure);
  if (old) old.destroy();
  plot.replaceChildren();
  charts.delete(figure);
  const { heads, data } = read(figure);
  if (!data[0].length || !plot.clientWidth && !figure.clientWidth) return;
  const bands = [];
  heads.forEach((head, place) => {
    if (head.dataset.draw === "high") bands.push({ series: [place + 1, place], fill: colour("--band") });
  });
  const fromZero = figure.dataset.zero === "1";
  const isTime = figure.dataset.time === "1";
  const options = {
    width: figure.clientWidth,
    height: 240,
    series: [{ label: figure.dataset.x, value: (_, v) => (v == null ? "–" : isTime ? new Date(v * 1000).toISOString().slice(0, 16).replace("T", " ") : number.format(v)) }, ...heads.map(seriesOf)],
    bands,
    scales: {
      x: { time: isTime },
      y: { range: (_, low, high) => rangeOf(low, high, fromZero) },
    },
    tzDate: (stamp) => uPlot.tzDate(new Date(stamp * 1000), "Etc/UTC"),
    axes: [axis({ space: 72, ...(isTime ? { values: (_, splits, __, ___, increment) => timeLabels(splits, increment) } : {}) }), axis({ size: 56, values: (_, ticks) => ticks.map((v) => number.format(v)) })],
    cursor: { y: false, drag: { x: false, y: false } },
    legend: { live: true },
  };
  charts.set(figure, new uPlot(options, data, plot));
}

function rangeOf(low, high, fromZero) {
  if (low == null) return [0, 1];
  const least = fromZero ? Math.min(0, low) : low;
  const room = (high - least || Math.abs(high) || 1) * 0.08;
  return [fromZero ? least : least - room, high + room];
}

// Called by live.js: one more row, in the table and in the picture.
function appendRow(name, at, values) {
  const figure = document.getElementById(name);
  if (!figure) return;
  const row = document.createElement("tr");
  row.dataset.at = String(at);
  [at, ...values].forEach((value, place) => {
    const cell = document.createElement("td");
    cell.className = "num";
    if (place) cell.dataset.v = value == null ? "" : String(value);
    cell.textContent = value == null ? "–" : number.format(value);
    row.append(cell);
  });
  figure.querySelector("details.figures tbody").append(row);
  const chart = charts.get(figure);
  if (!chart) {
    draw(figure);
    return;
  }
  const data = chart.data.map((column, place) => [...column, place ? values[place - 1] : at]);
  chart.setData(data);
}

function drawAll() {
  document.querySelectorAll("figure[data-chart]").forEach(draw);
}

let waiting = 0;
window.addEventListener("resize", () => {
  window.clearTimeout(waiting);
  waiting = window.setTimeout(() => charts.forEach((chart, figure) => chart.setSize({ width: figure.clientWidth, height: 240 })), 150);
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
document.addEventListener("htmx:afterSettle", (event) => {
  charts.forEach((chart, figure) => {
    if (!figure.isConnected) {
      chart.destroy();
      charts.delete(figure);
    }
  });
  if (event.target.querySelectorAll) event.target.querySelectorAll("figure[data-chart]").forEach((figure) => charts.has(figure) || draw(figure));
});
drawAll();

window.privacyFinetunerCharts = { appendRow };
