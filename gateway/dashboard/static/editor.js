// Numbers the lines of the configuration's editor, and leads from a problem to its line. Changes no text.

const textarea = document.querySelector("[data-editor] textarea");

function numbered(area) {
  const gutter = document.createElement("pre");
  gutter.className = "gutter";
  gutter.ariaHidden = "true";
  area.before(gutter);
  const wrong = new Set([...document.querySelectorAll("[data-line]")].map((link) => Number(link.dataset.line)));
  let lines = 0;
  const write = () => {
    const count = area.value.split("\n").length;
    if (count === lines) return;
    lines = count;
    gutter.replaceChildren(
      ...Array.from({ length: count }, (_, i) => {
        const line = document.createElement("span");
        line.textContent = `${i + 1}\n`;
        if (wrong.has(i + 1)) line.className = "wrong";
        return line;
      }),
    );
    gutter.scrollTop = area.scrollTop;
  };
  area.addEventListener("input", write);
  area.addEventListener("scroll", () => { gutter.scrollTop = area.scrollTop; });
  new ResizeObserver(() => { gutter.style.height = `${area.offsetHeight}px`; }).observe(area);
  write();
}

function goTo(area, number) {
  const lines = area.value.split("\n");
  const start = lines.slice(0, number - 1).reduce((sum, line) => sum + line.length + 1, 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[number - 1] ?? "").length);
  area.scrollTop = Math.max(0, (number - 6) * (area.scrollHeight / lines.length));
  area.scrollLeft = 0;
}

if (textarea) {
  numbered(textarea);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-line]");
    if (!link) return;
    event.preventDefault();
    goTo(textarea, Number(link.dataset.line));
  });
  const before = textarea.value;
  let sent = false;
  textarea.form.addEventListener("submit", () => { sent = true; });
  document.querySelector("[data-discard]")?.addEventListener("click", () => { sent = true; });
  addEventListener("beforeunload", (event) => {
    if (!sent && textarea.value !== before) event.preventDefault();
  });
}
