// Labels by key in the review queue: each key presses the button that shows it. Can be turned off (WCAG 2.1.4).

const choice = document.getElementById("shortcuts");
const help = document.getElementById("keys");
const NAME = "pointsman-review-keys";

function stored() {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null;
  }
}

function press(key) {
  if (key === "?") help.open ? help.close() : help.showModal();
  else if (key === "s") document.getElementById("skip")?.click();
  else if (key === "u") document.querySelector("#undo button").click();
  else [...document.querySelectorAll("[data-key-press]")].find((button) => button.dataset.keyPress === key)?.click();
}

if (choice && help) {
  const box = choice.querySelector("input");
  box.checked = stored() !== "off";
  choice.classList.remove("hidden");
  box.addEventListener("change", () => {
    try {
      localStorage.setItem(NAME, box.checked ? "on" : "off");
    } catch {
      // Storage is closed: until the page is left.
    }
  });
  let sent = false;
  addEventListener("submit", () => { sent = true; });
  addEventListener("pageshow", () => { sent = false; });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox]), textarea, select, dialog");
    if (!box.checked || sent || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (typing && event.key !== "?") return;
    press(event.key);
  });
  // After a label the next prompt is what there is to read.
  if (document.getElementById("done")) document.getElementById("prompt-title")?.focus({ preventScroll: true });
}
