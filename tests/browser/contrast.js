// Every text whose contrast is below WCAG's AA, and every field whose border is.
() => {
  const brush = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const read = (colour) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const linear = (part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ratio = (one, other) => {
    const [high, low] = [light(one), light(other)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const sample = document.body.appendChild(document.createElement("i"));
  sample.style.setProperty("background-color", "var(--paper)");
  const paper = read(getComputedStyle(sample).backgroundColor);
  sample.remove();
  const chain = (element) => (element ? [element, ...chain(element.parentElement)] : []);
  const behind = (element) => chain(element).map((each) => read(getComputedStyle(each).backgroundColor)).filter(([, , , a]) => a)
    .reduceRight((below, top) => over(top, below), paper);
  const low = [];
  const judge = (name, colour, ground, wanted) => {
    const found = ratio(over(colour, ground), ground);
    if (found < wanted) low.push(`${name}: ${found.toFixed(2)}`);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const [words, element] = [texts.currentNode.textContent.trim(), texts.currentNode.parentElement];
    if (!words || element.closest("svg, option, noscript, script") || element.getBoundingClientRect().width < 2) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const style = getComputedStyle(element);
    const colour = read(style.color);
    colour[3] *= chain(element).reduce((all, each) => all * Number(getComputedStyle(each).opacity), 1);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    judge(words.slice(0, 40), colour, behind(element), large ? 3 : 4.5);
  }
  for (const field of document.querySelectorAll("input:not([type=checkbox], [type=radio], [type=hidden]), select, textarea")) {
    if (field.checkVisibility() && field !== document.activeElement) judge(`border of ${field.name}`, read(getComputedStyle(field).borderTopColor), behind(field.parentElement), 3);
  }
  return low;
}
