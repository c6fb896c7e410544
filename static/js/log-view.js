// <log-view data-url>: a snapshot, then what comes. Follows while at the end; scrolling up lets go of it.
const EVERY = 1000;
const SLOWER = 5000;
const MOST = 5000;

class LogView extends HTMLElement {
  connectedCallback() {
    this.box = this.querySelector(".log");
    this.note = this.querySelector(".log-note");
    this.jump = this.querySelector(".log-jump");
    this.select = this.querySelector("select");
    this.box.addEventListener("scroll", () => this.atEnd() && this.attach());
    this.jump.addEventListener("click", () => this.toEnd());
    this.select.addEventListener("change", () => this.begin());
    this.begin();
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
  }

  begin() {
    this.last = "";
    this.kept = "";
    this.attempt = null;
    this.unseen = 0;
    this.run = (this.run ?? 0) + 1;
    this.ask(this.run);
  }

  async ask(run) {
    clearTimeout(this.timer);
    let pause = document.hidden ? SLOWER : EVERY;
    const replica = this.select.value || (await this.findReplica());
    if (replica && !document.hidden) {
      try {
        const query = new URLSearchParams({ replica, after: this.last });
        const answer = await fetch(`${this.dataset.url}?${query}`, { headers: { Accept: "application/json" } });
        if (run !== this.run) return;
        if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
        this.show(await answer.json());
      } catch {
        this.note.textContent = "The log cannot be read now; trying again.";
        pause = SLOWER;
      }
    }
    if (this.isConnected && run === this.run) this.timer = setTimeout(() => this.ask(run), pause);
  }

  // A model started after the page was opened has its replica in the part of the page that lives.
  async findReplica() {
    const row = document.querySelector('[id^="replica-"]');
    return row ? row.id.slice("replica-".length) : "";
  }

  show({ entries, kept, note }) {
    this.note.textContent = note ?? "";
    if (kept && !this.last) {
      const text = kept.join("\n");
      if (text === this.kept || !text) return;
      this.kept = text;
      this.box.replaceChildren(...kept.map((line) => this.line(line)));
      this.note.textContent = note ?? "Kept from its last attempt.";
      this.toEnd();
      return;
    }
    if (!entries.length) return;
    const first = !this.last;
    const follows = first || this.atEnd();
    const lines = entries.flatMap((entry) => this.lines(entry));
    if (first) this.box.replaceChildren();
    this.box.append(...lines);
    this.last = entries.at(-1).id;
    while (follows && this.box.childElementCount > MOST) this.box.firstElementChild.remove();
    if (follows) this.toEnd();
    else this.detach(entries.length);
  }

  lines({ at, attempt, text }) {
    const line = this.line(text);
    const time = document.createElement("time");
    time.className = "at";
    time.dateTime = at;
    time.textContent = new Date(at).toLocaleTimeString([], { hour12: false });
    line.prepend(time);
    if (this.attempt === attempt) return [line];
    this.attempt = attempt;
    const rule = this.line(`attempt ${attempt}`);
    rule.className = "rule";
    return [rule, line];
  }

  line(text) {
    const line = document.createElement("p");
    line.textContent = text;
    return line;
  }

  atEnd() {
    return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 24;
  }

  attach() {
    this.unseen = 0;
    this.jump.hidden = true;
  }

  detach(more) {
    this.unseen += more;
    this.jump.textContent = `${this.unseen} new line${this.unseen > 1 ? "s" : ""}, to the end`;
    this.jump.hidden = false;
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
    this.attach();
  }
}

customElements.define("log-view", LogView);
