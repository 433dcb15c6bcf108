// Puts requests on top of the table as they finish, over one stream; none while the tab is hidden or nobody wants it.

const MOST_ROWS = 300;

function watch(button, body, says) {
  let source = null;
  let wanted = false;

  const show = (text) => {
    says.textContent = text;
  };

  function close() {
    source?.close();
    source = null;
  }

  function open() {
    if (source || document.hidden) return;
    source = new EventSource(button.dataset.tail);
    source.addEventListener("open", () => show("Live: new requests appear on top."));
    source.addEventListener("rows", (event) => {
      const { html, hidden } = JSON.parse(event.data);
      const holder = document.createElement("template");
      holder.innerHTML = html; // the server's own rows, escaped there
      body.prepend(holder.content);
      while (body.rows.length > MOST_ROWS) body.deleteRow(-1);
      if (hidden) show(`Live. ${hidden} requests came too fast to be shown; they are stored all the same.`);
    });
    source.addEventListener("over", () => location.reload());
    source.addEventListener("error", () => {
      if (source?.readyState !== EventSource.CLOSED) return show("The connection broke; trying again.");
      stop("Live rows cannot be had just now: too many pages follow them, or the session is over.");
    });
  }

  function stop(text) {
    wanted = false;
    close();
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Watch live";
    show(text);
  }

  button.addEventListener("click", () => {
    if (wanted) return stop("Stopped.");
    wanted = true;
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Stop watching";
    show("Connecting.");
    open();
  });
  document.addEventListener("visibilitychange", () => {
    if (!wanted) return;
    if (document.hidden) close();
    else open();
  });
  addEventListener("pagehide", close);
}

const button = document.getElementById("watch");
if (button) watch(button, document.getElementById("rows"), document.getElementById("watch-says"));
