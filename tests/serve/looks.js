// What can be said of a page without a person. Each answers with what is wrong, as sentences.

// WCAG 2.2, 1.4.3: 4.5:1 for text; 3:1 where it is large (24px, or 18.66px and bold). Colours are composed over what lies
// beneath.
function contrast() {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const parse = (text) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = '#000'; canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    const canvas = matchMedia('(prefers-color-scheme: dark)').matches ? '#121212' : '#fff';
    return layers.reverse().reduce((below, layer) => over(layer, below), parse(canvas));
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const wrong = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim(), out = 'svg, script, style, noscript, option, .hidden, .skip, [disabled]';
    if (!text || !node.checkVisibility({ visibilityProperty: true }) || node.closest(out)) continue;
    const style = getComputedStyle(node), below = behind(node), ink = over(parse(style.color), below);
    const [a, b] = [light(ink), light(below)], ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    seen++;
    if (ratio < (large ? 3 : 4.5)) wrong.add(`${node.tagName}.${node.className}: ${ratio.toFixed(2)} "${text.slice(0, 30)}"`);
  }
  return seen ? [...wrong] : ['no text was looked at'];
}

// What a screen reader needs from the markup itself.
function markup() {
  const wrong = [], ids = new Map(), all = (selector) => [...document.querySelectorAll(selector)];
  for (const node of document.querySelectorAll('[id]')) ids.set(node.id, (ids.get(node.id) ?? 0) + 1);
  for (const [id, times] of ids) if (times > 1) wrong.push(`the id ${id} is there ${times} times`);
  for (const head of all('th:not([scope=col], [scope=row])')) wrong.push(`th without scope: ${head.textContent}`);
  for (const table of document.querySelectorAll('table')) {
    if (!table.closest('dialog:not([open])') && !table.querySelector('thead th')) wrong.push('a table without headers');
    const nameless = [...table.querySelectorAll('tbody tr:not(.empty)')].filter((row) => !row.querySelector('th[scope=row]'));
    wrong.push(...nameless.map((row) => `a row without a header: ${row.textContent}`));
  }
  for (const attribute of ['aria-labelledby', 'aria-describedby']) {
    const named = all(`[${attribute}]`).flatMap((node) => node.getAttribute(attribute).split(' '));
    wrong.push(...named.filter((id) => !document.getElementById(id)).map((id) => `${attribute} names ${id}, which is not there`));
  }
  const levels = all('h1, h2, h3, h4').filter((node) => node.checkVisibility()).map((node) => Number(node.tagName[1]));
  levels.forEach((level, at) => {
    if (at && level > levels[at - 1] + 1) wrong.push(`a heading of level ${level} after one of ${levels[at - 1]}`);
  });
  if (levels.filter((level) => level === 1).length !== 1) wrong.push('not one h1');
  if (!document.documentElement.lang || !document.title) wrong.push('no language or no title');
  for (const node of document.querySelectorAll('[tabindex]')) if (node.tabIndex > 0) wrong.push(`tabindex ${node.tabIndex}`);
  return wrong;
}

// What can be pressed is at least 24 by 24 (WCAG 2.2, 2.5.8), links in running text aside; nothing is wider than the window.
function room() {
  const wrong = [];
  if (document.documentElement.scrollWidth > innerWidth + 1) {
    const wide = [...document.querySelectorAll('body *')].filter((node) => node.getBoundingClientRect().right > innerWidth + 1);
    wrong.push(`wider than the window: ${wide.slice(0, 3).map((node) => `${node.tagName}#${node.id}.${node.className}`)}`);
  }
  for (const node of document.querySelectorAll('dialog[open]')) {
    if (node.scrollWidth > node.clientWidth + 1) wrong.push(`#${node.id} has to be moved sideways`);
  }
  for (const node of document.querySelectorAll('button:not(.name):not(thead button), select, input:not([type=checkbox])')) {
    const { width, height } = node.getBoundingClientRect();
    if (!node.checkVisibility() || (width >= 24 && height >= 24)) continue;
    wrong.push(`small: ${node.id || node.textContent} ${width}x${height}`);
  }
  return wrong;
}
