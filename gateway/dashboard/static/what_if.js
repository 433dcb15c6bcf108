// The slider of the page on confidence: requests and cost at any threshold, from figures that came with the page.
// It says what the server says for a threshold in the address (pages/confidence.py), without asking it.

const THIN = "\u202f";
const NONE = "–";

// Halves to the even digit, as Python does.
const figures = (value, digits) =>
  value
    .toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven" })
    .replaceAll(",", THIN);

const percent = (share) => `${figures(100 * share, 1)}${THIN}%`;

function money(value, currency) {
  const size = Math.abs(value);
  return figures(value, size >= 1 || value === 0 ? 2 : size >= 0.001 ? 4 : 6) + THIN + currency;
}

function signed(value, text) {
  return (value > 0 ? "+" : value < 0 ? "−" : "±") + text;
}

// Experts and cost with a threshold of one domain, or of all (""): what is in effect, less that piece, plus it anew.
function outcome(data, only, step) {
  const piece = data.pieces[only];
  const experts = { ...data.now };
  for (const [name, counts] of Object.entries(piece.acted)) {
    experts[name] = (experts[name] ?? 0) - piece.actedNow[name] + counts[step];
  }
  const others = Object.entries(experts).filter(([name]) => name !== data.generalist);
  experts[data.generalist] = data.requests - others.reduce((sum, [, count]) => sum + count, 0);
  return { experts, cost: data.costNow - piece.costNow + piece.cost[step] };
}

function texts(data, { experts, cost }) {
  const share = (experts[data.generalist] ?? 0) / data.requests;
  const change = share - (data.before[data.generalist] ?? 0) / data.requests;
  const more = cost - data.costBefore;
  const each = data.priced ? 1000 / data.priced : 0;
  return {
    share: percent(share),
    "share-change": `${signed(change, figures(100 * Math.abs(change), 1))} points`,
    cost: money(cost, data.currency),
    "cost-change": signed(more, money(Math.abs(more), data.currency)),
    each: money(cost * each, data.currency),
    "each-change": signed(more, money(Math.abs(more) * each, data.currency)),
    ratio: data.costBefore ? signed(more, percent(Math.abs(more / data.costBefore))) : NONE,
  };
}

function show(root, data, found) {
  for (const [name, text] of Object.entries(texts(data, found))) {
    const place = root.querySelector(`[data-what="${name}"]`);
    if (place) place.textContent = text;
  }
  for (const row of root.querySelectorAll("[data-expert]")) {
    const after = found.experts[row.dataset.expert] ?? 0;
    const change = after - (data.before[row.dataset.expert] ?? 0);
    row.querySelector('[data-what="after"]').textContent = figures(after, 0);
    row.querySelector('[data-what="change"]').textContent = signed(change, figures(Math.abs(change), 0));
    row.querySelector('[data-what="bar"] rect').setAttribute("width", String((100 * after) / data.requests));
  }
}

const block = document.getElementById("what-if-data");
if (block) {
  const data = JSON.parse(block.textContent);
  const root = document.getElementById("what-if");
  const slider = document.getElementById("threshold");
  const only = document.getElementById("only");
  const says = document.getElementById("what-if-says");
  let quiet = 0;
  const update = () => {
    const step = Math.round(Number(slider.value) * 100);
    document.getElementById("threshold-shown").textContent = (step / 100).toFixed(2);
    const found = outcome(data, only.value, step);
    show(root, data, found);
    // Read aloud once the slider rests, and not at every step of it.
    clearTimeout(quiet);
    quiet = setTimeout(() => {
      const { share, cost } = texts(data, found);
      says.textContent = `To the generalist: ${share}. ${data.priced ? `Cost: ${cost}.` : ""}`;
    }, 600);
  };
  slider.addEventListener("input", update);
  only.addEventListener("change", () => {
    const { threshold } = data.pieces[only.value];
    if (only.value) slider.value = String(Math.round(threshold * 100) / 100);
    update();
  });
}
