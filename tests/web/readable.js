// What keeps a page from being read or worked by everybody: text of less contrast than 4.5 (WCAG 2.1, AA), a page wider than its screen, controls without a name.
() => {
  const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = colour;
    pixel.fillRect(0, 0, 1, 1);
    return pixel.getImageData(0, 0, 1, 1).data;
  };
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const found = rgba(getComputedStyle(node).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const node of document.querySelectorAll("body *")) {
    const hasText = [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.textContent.trim());
    if (!hasText || !node.checkVisibility() || node.closest("svg")) continue;
    const both = [luminance(rgba(getComputedStyle(node).color)), luminance(ground(node))];
    const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)}: ${node.tagName}.${node.className} ${node.textContent.trim().slice(0, 30)}`);
  }
  const controls = [...document.querySelectorAll("button, a, input:not([type=hidden]), textarea, select")].filter((node) => node.checkVisibility());
  const unnamed = controls.filter((node) => !(node.textContent.trim() || node.getAttribute("aria-label") || node.labels?.length)).map((node) => node.outerHTML);
  return { faint, wider: Math.max(0, document.documentElement.scrollWidth - document.documentElement.clientWidth), unnamed };
}
