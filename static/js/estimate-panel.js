// <estimate-panel for="form">: estimates again what is written in that form, a moment after the last key.
const PAUSE = 300;

class EstimatePanel extends HTMLElement {
  #revision = 0;
  #timer = 0;

  connectedCallback() {
    this.form = document.getElementById(this.getAttribute("for"));
    for (const kind of ["input", "change"]) this.form.addEventListener(kind, () => this.later());
    document.body.addEventListener("htmx:after:swap", () => this.later()); // another engine has other fields
    this.addEventListener("click", (event) => this.fill(event.target.closest("[data-fills]")));
    this.ask();
  }

  later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.ask(), PAUSE);
  }

  async ask() {
    const words = new FormData(this.form);
    if (!words.get("source.path") && !words.get("source.repository")) return;
    const revision = String(++this.#revision);
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

  show(html) {
    const drawn = document.createRange().createContextualFragment(html).firstElementChild;
    if (drawn?.dataset.revision !== String(this.#revision)) return; // a later question is on its way
    const open = this.querySelector("details")?.open;
    this.replaceChildren(drawn);
    if (open) this.querySelector("details")?.setAttribute("open", "");
    this.removeAttribute("aria-busy");
  }

  tell(words, revision) {
    if (revision !== String(this.#revision)) return;
    this.querySelector(".card-body").replaceChildren(words);
    this.removeAttribute("aria-busy");
  }

  fill(button) {
    if (!button) return;
    const fills = Object.entries(JSON.parse(button.dataset.fills));
    const before = this.form.elements.namedItem("engine")?.value;
    this.write(fills);
    const engine = this.form.querySelector("[name=engine]:checked");
    if (engine && engine.value !== before) {
      document.body.addEventListener("htmx:after:swap", () => this.write(fills), { once: true });
      engine.dispatchEvent(new Event("change", { bubbles: true }));
    }
    this.form.dispatchEvent(new Event("input", { bubbles: true }));
  }

  write(fills) {
    for (const [name, value] of fills) {
      const field = this.form.elements.namedItem(name); // radio buttons come as a list that takes a value, too
      if (!field) continue;
      field.value = value;
      field.closest?.("details")?.setAttribute("open", "");
      field.closest?.(".field")?.classList.add("is-filled");
    }
  }
}

customElements.define("estimate-panel", EstimatePanel);
