// What every page has: charts, live figures, the choice of colours. Each part does nothing where a page has no such thing.
import { drawAll } from "./charts.js";
import { follow } from "./live.js";

const STEPS = { system: "light", light: "dark", dark: "system" };
const SIGNS = { system: "◐", light: "○", dark: "●" };

function themeSwitch(button) {
  const show = (theme) => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.setAttribute("aria-label", theme === "system" ? "Colours: as the system" : `Colours: ${theme}`);
    button.firstElementChild.textContent = SIGNS[theme];
  };
  let theme = document.documentElement.dataset.theme ?? "system";
  show(theme);
  button.addEventListener("click", () => {
    theme = STEPS[theme];
    show(theme);
    try {
      localStorage.setItem("pointsman-theme", theme);
    } catch {
      // Storage is closed: until the page is left.
    }
    drawAll(document);
  });
}

const button = document.getElementById("theme");
if (button) themeSwitch(button);
drawAll(document);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));
document.addEventListener("htmx:after:swap", () => drawAll(document));
const { live, liveS } = document.body.dataset;
if (live) follow(live, Number(liveS ?? 5));
