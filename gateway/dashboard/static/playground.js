// Sends the tried prompt to two experts and shows both answers as they stream. Text only: an answer is never run as HTML.

const panel = document.getElementById("send");
const LONGEST = 200_000;

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const lines = held.split(/\r?\n/);
    held = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:") && line.slice(5).trim() !== "[DONE]") yield JSON.parse(line.slice(5));
    }
  }
}

async function failure(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `The gateway answered with status ${answer.status}.`;
  }
}

const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toPrecision(3)} s`);

async function ask(pane, expert, messages, maxTokens, signal) {
  const [title, note, text] = pane.children;
  pane.classList.remove("hidden");
  [title.textContent, note.textContent, text.textContent] = [expert, "Waiting …", ""];
  const started = performance.now();
  let first = null;
  let error = null;
  let finish = null;
  let id = null;
  try {
    const answer = await fetch(panel.dataset.send, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ expert, messages, max_tokens: maxTokens }),
      signal,
    });
    id = answer.headers.get("x-request-id");
    if (!answer.ok) error = await failure(answer);
    else {
      for await (const event of events(answer.body)) {
        if (event.error) error = event.error.message;
        const choice = event.choices?.[0];
        finish = choice?.finish_reason ?? finish;
        const piece = (choice?.delta?.reasoning_content ?? "") + (choice?.delta?.content ?? "");
        if (!piece) continue;
        first ??= performance.now() - started;
        if (text.textContent.length < LONGEST) text.append(piece);
        note.textContent = `First token after ${seconds(first)}.`;
      }
    }
  } catch (problem) {
    error = signal.aborted ? "Stopped." : "The connection broke.";
  }
  const whole = seconds(performance.now() - started);
  note.textContent = error ?? `First token after ${first === null ? "–" : seconds(first)}, whole after ${whole}${finish ? `, ended by ${finish}` : ""}. `;
  if (!id) return;
  const link = document.createElement("a");
  link.href = `${panel.dataset.requests}/${encodeURIComponent(id)}`;
  link.textContent = "Its record";
  note.append(" ", link);
}

if (panel) {
  const form = document.getElementById("send-form");
  const [both, stop] = [document.getElementById("send-both"), document.getElementById("stop")];
  const messages = JSON.parse(document.getElementById("messages").textContent);
  const panes = [...panel.querySelectorAll(".answers > section")];
  let running = null;
  both.disabled = false;
  stop.addEventListener("click", () => running?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    running = new AbortController();
    both.disabled = true;
    stop.classList.remove("hidden");
    const most = document.getElementById("max-tokens").valueAsNumber;
    await Promise.all(panes.map((pane, side) => ask(pane, document.getElementById(`expert-${side}`).value, messages, most, running.signal)));
    running = null;
    both.disabled = false;
    stop.classList.add("hidden");
  });
}
