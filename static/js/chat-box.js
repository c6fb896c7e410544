// <chat-box data-url>: a conversation that streams, with its speed; Stop closes the connection, and so the model stops.
const csrf = () => JSON.parse(document.body.getAttribute("hx-headers:inherited"));

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

class ChatBox extends HTMLElement {
  connectedCallback() {
    this.log = this.querySelector(".chat-log");
    this.form = this.querySelector("form");
    this.words = this.querySelector("textarea");
    this.stopper = this.querySelector(".chat-stop");
    this.sender = this.form.querySelector("button:not(.chat-stop)");
    this.clearer = this.querySelector(".chat-clear");
    this.hello = this.log.firstElementChild;
    this.messages = [];
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.words.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.form.requestSubmit();
    });
    this.stopper.addEventListener("click", () => this.abort?.abort());
    this.clearer.addEventListener("click", () => this.clear());
  }

  disconnectedCallback() {
    this.abort?.abort();
  }

  clear() {
    this.abort?.abort();
    this.messages = [];
    this.log.replaceChildren(this.hello);
    this.clearer.hidden = true;
    this.words.focus();
  }

  submit(event) {
    event.preventDefault();
    const text = this.words.value.trim();
    if (!text || this.abort) return;
    this.words.value = "";
    this.hello.remove();
    this.clearer.hidden = false;
    this.messages.push({ role: "user", content: text });
    this.say("you", text);
    this.answer();
  }

  async answer() {
    this.abort = new AbortController();
    this.sender.hidden = true;
    this.stopper.hidden = false;
    const place = this.say("it streams", "");
    const facts = { began: performance.now(), first: 0, tokens: 0, stopped: false };
    try {
      await this.stream(place, facts);
    } catch (error) {
      facts.stopped = error.name === "AbortError";
      if (!facts.stopped) this.fail(error.message);
    }
    place.classList.remove("streams");
    if (place.textContent) this.messages.push({ role: "assistant", content: place.textContent });
    else place.remove();
    this.tell(facts);
    this.abort = null;
    this.sender.hidden = false;
    this.stopper.hidden = true;
  }

  async stream(place, facts) {
    const answer = await fetch(this.dataset.url, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...csrf() },
      body: JSON.stringify({ messages: this.messages, stream_options: { include_usage: true } }),
      signal: this.abort.signal,
    });
    if (!answer.ok || !answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      throw new Error(await this.reason(answer));
    }
    for await (const event of events(answer.body)) {
      if (event.error) throw new Error(event.error.message ?? "The answer broke off.");
      const delta = event.choices?.[0]?.delta ?? {};
      const text = delta.content ?? delta.reasoning_content ?? "";
      if (event.usage?.completion_tokens) facts.tokens = event.usage.completion_tokens;
      if (!text) continue;
      facts.first ||= performance.now();
      facts.last = performance.now();
      facts.chunks = (facts.chunks ?? 0) + 1;
      this.add(place, text);
    }
  }

  async reason(answer) {
    try {
      const body = await answer.json();
      return body.error?.message ?? body.detail ?? answer.statusText;
    } catch {
      return answer.redirected ? "You are signed out. Sign in again." : `The gateway answered ${answer.status}.`;
    }
  }

  add(place, text) {
    const follows = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 40;
    place.append(text);
    if (follows) this.log.scrollTop = this.log.scrollHeight;
  }

  say(who, text) {
    const line = document.createElement("p");
    line.className = `says ${who}`;
    line.textContent = text;
    this.log.append(line);
    this.log.scrollTop = this.log.scrollHeight;
    return line;
  }

  fail(words) {
    const line = document.createElement("p");
    line.className = "notice is-wrong";
    line.setAttribute("role", "alert");
    line.textContent = words;
    this.log.append(line);
    this.log.scrollTop = this.log.scrollHeight;
  }

  tell({ began, first, last, tokens, chunks, stopped }) {
    if (!first) return;
    const count = tokens || chunks;
    const seconds = (last - first) / 1000;
    const facts = [`first token after ${Math.round(first - began)} ms`];
    if (count > 1 && seconds > 0) facts.push(`${((count - 1) / seconds).toFixed(1)} tokens/s`);
    facts.push(`${count} token${count > 1 ? "s" : ""}`);
    if (stopped) facts.push("stopped");
    const line = document.createElement("p");
    line.className = "chat-facts";
    line.textContent = facts.join(" · ");
    this.log.append(line);
    this.log.scrollTop = this.log.scrollHeight;
  }
}

customElements.define("chat-box", ChatBox);
