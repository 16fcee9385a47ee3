"""How well texts stand out from what is behind them, as WCAG 2 computes it."""

from playwright.sync_api import Page, expect

_MEASURE = """
selector => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parse = colour => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) =>
    [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat([1]);
  const light = colour => {
    const [r, g, b] = colour.slice(0, 3).map(value => {
      const share = value / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [...document.querySelectorAll(selector)].filter(e => e.checkVisibility()).map(e => {
    const layers = [];
    let opacity = 1;
    for (let node = e; node; node = node.parentElement) {
      const style = getComputedStyle(node);
      layers.unshift(parse(style.backgroundColor));
      opacity *= Number(style.opacity);
    }
    const ground = layers.reduce((below, top) => over(top, below), [255, 255, 255, 1]);
    const ink = parse(getComputedStyle(e).color);
    ink[3] *= opacity;
    const [low, high] = [light(over(ink, ground)), light(ground)].sort((a, b) => a - b);
    return [e.textContent.trim().slice(0, 40), (high + 0.05) / (low + 0.05)];
  });
}
"""

_SETTLED = """
() => document.getAnimations().every(a => !(a instanceof CSSTransition))
  && !document.querySelector('.pending, .generating')
"""


def contrasts(page: Page, selector: str) -> dict[str, float]:
    """Return text -> contrast, 1 to 21, of the visible elements that `selector` finds.

    Waits first until there is one, and until nothing fades any more.
    """
    expect(page.locator(selector).filter(visible=True).first).to_be_visible()
    page.wait_for_function(_SETTLED)
    return {text: ratio for text, ratio in page.evaluate(_MEASURE, selector)}
