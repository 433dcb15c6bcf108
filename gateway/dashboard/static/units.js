// Writes numbers in their units, as formats.py does on the server.

const THIN = "\u202f";

function figures(value) {
  return Number(value.toPrecision(3)).toString();
}

function compact(value) {
  for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= limit) return figures(value / limit) + THIN + unit;
  }
  return figures(value);
}

function seconds(value) {
  if (value === 0) return `0${THIN}s`;
  if (Math.abs(value) < 0.001) return Math.round(value * 1e6) + THIN + "us";
  if (Math.abs(value) < 1) return figures(value * 1e3) + THIN + "ms";
  if (Math.abs(value) < 120) return figures(value) + THIN + "s";
  return figures(value / 60) + THIN + "min";
}

export function written(value, unit, currency = "") {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (unit === "share") return figures(100 * value) + THIN + "%";
  if (unit === "seconds") return seconds(value);
  if (unit === "money") return figures(value) + THIN + currency;
  if (unit === "plain") return figures(value);
  return compact(value);
}
