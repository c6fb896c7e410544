// <estimate-panel for="form">: estimates again what is written in that form, a moment after the last key.
const PAUSE = 300;
const NARROW = matchMedia("(width < 64rem)");
const EMPTY = "empty";
const named = (name) => name[0].toUpperCase() + name.slice(1).replaceAll(/[._]/g, " ");

class EstimatePanel extends HTMLElement {
  #revision = 0;
  #timer = 0;
  #before = [];

  connectedCallback() {
    this.form = document.getElementById(this.getAttribute("for"));
    this.status = this.querySelector("[role=status]");
    this.applied = this.querySelector(".applied");
    this.drawn.open = !NARROW.matches;
    this.blank = this.drawn.cloneNode(true);
    for (const kind of ["input", "change"]) this.form.addEventListener(kind, (event) => this.written(event));
    document.body.addEventListener("htmx:after:swap", () => this.later()); // another engine has other fields
    this.addEventListener("click", (event) => this.clicked(event.target));
    this.ask();
  }

  get drawn() {
    return this.querySelector(".estimate");
  }

  later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.ask(), PAUSE);
  }

  async ask() {
    const words = new FormData(this.form);
    const revision = String(++this.#revision);
    if (!words.get("source.path") && !words.get("source.repository")) return this.forget();
    words.set("revision", revision);
    this.toggleAttribute("aria-busy", true);
    try {
      const answer = await fetch(this.dataset.url, { method: "POST", body: words });
      if (answer.ok && !answer.redirected) this.show(await answer.text());
      else this.tell("It cannot be estimated now. The form can be saved all the same.", revision);
    } catch {
      this.tell("Cortex does not answer. It is asked again when you type.", revision);
    }
  }

  forget() {
    this.draw(this.blank.cloneNode(true));
    this.status.textContent = "";
  }

  show(html) {
    const drawn = document.createRange().createContextualFragment(html).firstElementChild;
    if (drawn?.dataset.revision !== String(this.#revision)) return; // a later question is on its way
    this.draw(drawn);
    if (this.status.textContent !== drawn.dataset.says) this.status.textContent = drawn.dataset.says;
  }

  // Replaced by the answer: what was open stays open, and who was in it stays in it.
  draw(drawn) {
    const inside = this.drawn.contains(document.activeElement);
    drawn.open = this.drawn.open;
    for (const { id } of this.drawn.querySelectorAll("details[open]")) drawn.querySelector(`#${id}`)?.setAttribute("open", "");
    this.drawn.replaceWith(drawn);
    if (inside) drawn.querySelector("summary").focus();
    this.removeAttribute("aria-busy");
  }

  tell(words, revision) {
    if (revision !== String(this.#revision)) return;
    this.drawn.querySelector(".card-body").replaceChildren(words);
    this.removeAttribute("aria-busy");
  }

  written(event) {
    if (event.isTrusted) {
      const field = event.target.closest(".field.is-filled");
      field?.classList.remove("is-filled");
      if (field) this.applied.hidden = true;
    }
    this.later();
  }

  clicked(target) {
    const fix = target.closest("[data-fills]");
    if (fix) this.apply(fix.textContent.trim(), Object.entries(JSON.parse(fix.dataset.fills)));
    if (target.closest("[data-undoes]")) this.undo();
  }

  async apply(title, fills) {
    this.#before = fills.map(([name]) => [name, this.form.elements.namedItem(name)?.value ?? ""]);
    await this.fill(fills);
    const [words, list] = [this.applied.querySelector("p"), this.applied.querySelector("ul")];
    words.textContent = `Filled in: ${title}`;
    list.replaceChildren(...this.changes());
    this.applied.hidden = false;
    this.applied.querySelector("button").focus();
  }

  async undo() {
    await this.fill(this.#before);
    for (const field of this.form.querySelectorAll(".is-filled")) field.classList.remove("is-filled");
    this.applied.hidden = true;
    this.drawn.querySelector("summary").focus();
  }

  // What stands in the fields now instead, each a link to its field.
  *changes() {
    for (const [name, before] of this.#before) {
      const field = this.form.elements.namedItem(name);
      const now = field?.value ?? "";
      if (now === before) continue;
      const line = document.createElement("li");
      const link = document.createElement("a");
      const at = field?.id || `field-${name}`;
      link.href = document.getElementById(at) ? `#${at}` : "#field-options";
      link.textContent = document.querySelector(`label[for="${at}"]`)?.firstChild.textContent ?? named(name);
      line.append(link, ` ${this.spelt(name, before)} → ${this.spelt(name, now)}`);
      yield line;
    }
  }

  spelt(name, value) {
    const title = this.form.querySelector(`[name="${name}"][type=radio][value="${CSS.escape(value)}"] ~ * strong`);
    return title?.textContent ?? (value || EMPTY);
  }

  async fill(fills) {
    const before = this.form.elements.namedItem("engine")?.value;
    this.write(fills);
    const engine = this.form.querySelector("[name=engine]:checked");
    if (engine && engine.value !== before) {
      const swapped = new Promise((done) => document.body.addEventListener("htmx:after:swap", done, { once: true }));
      engine.dispatchEvent(new Event("change", { bubbles: true }));
      await swapped;
      this.write(fills);
    }
    this.form.dispatchEvent(new Event("input", { bubbles: true }));
  }

  write(fills) {
    for (const [name, value] of fills) {
      const field = this.form.elements.namedItem(name); // radio buttons come as a list that takes a value, too
      if (!field || field.value === value) continue;
      field.value = value;
      field.closest?.("details")?.setAttribute("open", "");
      field.closest?.(".field")?.classList.add("is-filled");
    }
  }
}

customElements.define("estimate-panel", EstimatePanel);
