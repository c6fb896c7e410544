// <copy-button for="id">: copies the text of that element, and says so.
class CopyButton extends HTMLElement {
  connectedCallback() {
    if (this.querySelector("button")) return;
    const sprite = new URL("../icons.svg", import.meta.url).pathname;
    this.innerHTML = `<button type="button" class="quiet icon-only" title="Copy"><svg class="icon" role="img" aria-label="Copy"><use href="${sprite}#copy"/></svg></button>`;
    this.addEventListener("click", () => this.copy(sprite));
  }

  async copy(sprite) {
    const source = document.getElementById(this.getAttribute("for"));
    const use = this.querySelector("use");
    const icon = this.querySelector("svg");
    try {
      await navigator.clipboard.writeText(source.textContent);
      use.setAttribute("href", `${sprite}#check`);
      icon.setAttribute("aria-label", "Copied");
    } catch {
      getSelection().selectAllChildren(source); // no permission or no HTTPS: selected, for the person's own keys
      icon.setAttribute("aria-label", "Selected: press Ctrl-C");
    }
    setTimeout(() => {
      use.setAttribute("href", `${sprite}#copy`);
      icon.setAttribute("aria-label", "Copy");
    }, 2000);
  }
}

customElements.define("copy-button", CopyButton);
