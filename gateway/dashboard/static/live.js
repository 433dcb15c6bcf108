// Asks for a page's live figures and writes them into its elements. One request at a time, none while the tab is hidden.

const SLOWEST_S = 60;

function write(figures) {
  for (const element of document.querySelectorAll("[data-key]")) {
    const figure = figures[element.dataset.key];
    if (figure === undefined) continue;
    const { text, state } = typeof figure === "string" ? { text: figure } : figure;
    if (element.textContent !== text) element.textContent = text;
    if (state !== undefined) {
      const holder = element.closest("[data-state]") ?? element;
      holder.dataset.state = state;
    }
  }
}

export function follow(url, everyS) {
  let etag = "";
  let waitS = everyS;
  let timer = 0;

  async function ask() {
    try {
      const answer = await fetch(url, {
        headers: etag ? { "if-none-match": etag, accept: "application/json" } : { accept: "application/json" },
        cache: "no-store",
        signal: AbortSignal.timeout(10_000),
      });
      if (answer.status === 401) {
        location.reload(); // the session is over: the page leads to the login
        return;
      }
      if (answer.status === 200) {
        etag = answer.headers.get("etag") ?? "";
        write(await answer.json());
      } else if (answer.status !== 304) throw new Error(String(answer.status));
      waitS = everyS;
      document.body.classList.remove("stale");
    } catch {
      waitS = Math.min(waitS * 2, SLOWEST_S);
      document.body.classList.add("stale");
    }
    next();
  }

  function next() {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(ask, waitS * 1000);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) {
      waitS = everyS;
      ask();
    }
  });
  next();
}
