// The table of machines: a row each, made once and patched where its machine changed. What strangers said is set as text, never
// as markup.

export const LOST = ['failed', 'blocked', 'missed', 'refused'];
// standing -> [sign, kind of badge, words]; in the order in which they want to be looked at
export const STANDINGS = new Map(Object.entries({
  failed: ['✗', 'bad', 'failed'],
  blocked: ['⊘', 'bad', 'blocked'],
  missed: ['✗', 'bad', 'window missed'],
  refused: ['✗', 'bad', 'refused'],
  gated: ['◆', 'gate', 'at a gate'],
  running: ['●', 'run', 'running'],
  paused: ['‖', 'rest', 'paused'],
  waiting: ['○', 'rest', 'waiting'],
  skipped: ['–', 'rest', 'skipped'],
  cancelled: ['–', 'rest', 'cancelled'],
  'rolled back': ['↩', 'rest', 'rolled back'],
  done: ['✓', 'good', 'done'],
}));
const LANES = { replicate: ['replicate', 3], 'test-cutover': ['test', 13], cutover: ['cutover', 23], finalize: ['cutover', 23] };
const LANE = 8, HEIGHT = 34;  // of a timeline, in its own units
const THIN = 200;  // what was over in a moment is that part of the line, or nobody sees it
const SVG = 'http://www.w3.org/2000/svg';
const rank = new Map([...STANDINGS.keys()].map((name, place) => [name, place]));

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function size(count) {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit++; }
  return `${unit === 0 || count >= 100 ? count.toFixed(0) : count.toFixed(1)} ${units[unit]}`;
}

export function span(seconds) {
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  const rest = Math.floor(seconds % 60);
  if (minutes < 60) return rest ? `${minutes} min ${two(rest)} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  return minutes % 60 ? `${hours} h ${two(minutes % 60)} min` : `${hours} h`;
}

export function clock(at, now = at) {
  const when = new Date(at * 1000), today = new Date(now * 1000);  // by hand: toLocaleTimeString takes a tenth of a millisecond
  const time = `${two(when.getHours())}:${two(when.getMinutes())}`;
  return day(when) === day(today) ? time : `${day(when)} ${time}`;
}

const two = (number) => String(number).padStart(2, '0');
const day = (when) => `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;

export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function badge(node, standing) {
  const [sign, kind, words] = STANDINGS.get(standing) ?? ['', 'rest', standing];
  put(node, `${sign} ${words}`);
  node.className = `badge ${kind}`;
}

const found = (one) => one.findings[0] * 1000 + one.findings[1];  // blockers before warnings
const spent = (one) => one.moving?.total ? one.moving.done / one.moving.total : one.standing === 'done' ? 2 : -1;
// key -> [title, class, how two machines compare]
export const COLUMNS = new Map(Object.entries({
  order: ['Machine', 'c-machine', (a, b) => a.order - b.order],
  state: ['State', 'c-state', (a, b) => rank.get(a.standing) - rank.get(b.standing) || a.order - b.order],
  now: ['Now', 'c-now', (a, b) => spent(b) - spent(a) || a.order - b.order],
  time: ['Timeline', 'c-time', null],
  down: ['Downtime', 'c-down', (a, b) => (b.downtime ?? -1) - (a.downtime ?? -1) || a.order - b.order],
  findings: ['Findings', 'c-findings', (a, b) => found(b) - found(a) || a.order - b.order],
  links: ['Evidence', 'c-links', null],
}));

export class Machines {
  constructor(rows, heads, { open, address, axis }) {
    this.body = rows;
    this.open = open;
    this.address = address;
    this.all = new Map();  // id -> {one, row, parts}
    this.sort = { by: 'state', down: false };
    this.shows = () => true;
    this.axes = [element('span', { className: 'axis' }), axis];
    this.scale = { began: 0, from: 0, until: 1 };
    this.heads = new Map();
    for (const [key, [title, kind, compare]] of COLUMNS) {
      const head = element('th', { scope: 'col', className: kind });
      head.setAttribute('role', 'columnheader');
      if (compare) {
        const button = element('button', { type: 'button', textContent: title });
        button.addEventListener('click', () => this.sorted(key, this.sort.by === key && !this.sort.down));
        head.append(button);
      } else head.append(title);
      if (key === 'time') head.append(this.axes[0]);
      heads.append(head);
      this.heads.set(key, head);
    }
    const nobody = element('td', { colSpan: COLUMNS.size, textContent: 'No machine is like that.' });
    this.none = element('tr', { className: 'empty', hidden: true }, nobody);
    this.body.append(this.none);
  }

  clear() {
    for (const { row } of this.all.values()) row.remove();
    this.all.clear();
  }

  remove(id) {
    this.all.get(id)?.row.remove();
    this.all.delete(id);
  }

  change(one) {
    let known = this.all.get(one.id);
    if (!known) {
      known = this.make(one.id);
      this.all.set(one.id, known);
    }
    known.one = one;
    this.fill(known);
  }

  make(id) {
    const cell = (kind, name = 'td', role = 'cell') => {
      const made = element(name, { className: kind });
      made.setAttribute('role', role);
      return made;
    };
    const parts = {
      name: element('button', { type: 'button', className: 'name', textContent: id }), under: element('small'),
      badge: element('span', { className: 'badge' }), stage: element('small'),
      bar: element('progress', { max: 1 }), now: element('small'), rest: element('small'),
      time: document.createElementNS(SVG, 'svg'), down: element('span'), budget: element('small'), findings: element('span'),
      late: cell('c-down number'), links: cell('c-links'),
    };
    parts.name.addEventListener('click', () => this.open(id));
    parts.bar.setAttribute('aria-label', `How far ${id} is`);
    parts.time.setAttribute('class', 'time');
    parts.time.setAttribute('role', 'img');
    parts.time.setAttribute('preserveAspectRatio', 'none');
    const row = element('tr');
    row.setAttribute('role', 'row');
    const head = cell('c-machine', 'th', 'rowheader');
    head.scope = 'row';
    head.append(parts.name, parts.under);
    const state = cell('c-state'), now = cell('c-now'), time = cell('c-time'), findings = cell('c-findings');
    state.append(parts.badge, parts.stage);
    now.append(parts.bar, parts.now, parts.rest);
    time.append(parts.time);
    parts.late.append(parts.down, parts.budget);
    findings.append(parts.findings);
    row.append(head, state, now, time, parts.late, findings, parts.links);
    this.body.append(row);
    return { one: null, row, parts };
  }

  fill({ one, parts, row }) {
    put(parts.under, [one.wave, one.name === one.id ? '' : one.name].filter(Boolean).join(' · '));
    badge(parts.badge, one.standing);
    put(parts.stage, one.standing === 'gated' ? one.gate : one.stage);
    parts.under.title = parts.under.textContent;
    const moving = one.standing === 'running' ? one.moving : null;
    parts.bar.hidden = !moving?.total;
    if (moving?.total) parts.bar.value = Math.min(1, moving.done / moving.total);
    put(parts.now, moving ? this.told(moving) : one.why);
    parts.now.title = parts.now.textContent;
    const moves = ['running', 'gated', 'waiting', 'paused'].includes(one.standing);
    put(parts.rest, one.expected && moves ? `about ${span(one.expected)} to go` : '');
    const late = one.downtime !== null && one.budget !== null && one.downtime > one.budget;
    put(parts.down, one.downtime === null ? '' : span(one.downtime));
    const against = late ? '⚠ over' : one.downtime === null ? 'budget' : 'of';
    put(parts.budget, one.budget === null ? '' : `${against} ${span(one.budget)}`);
    parts.late.classList.toggle('late', late);
    const told = [['⊘', 'blocker', one.findings[0]], ['⚠', 'warning', one.findings[1]]].filter(([, , count]) => count);
    parts.findings.replaceChildren(...told.map(([sign, level, count]) =>
      element('span', { className: `f ${level}`, textContent: `${sign} ${count} ${level}${count > 1 ? 's' : ''}` })));
    if (one.report !== (parts.links.childElementCount > 0)) {
      parts.links.replaceChildren(...(one.report ? ['report', 'console'] : []).map((what) => {
        const link = element('a', { href: this.address(one.id, what), target: '_blank', rel: 'noopener', textContent: what });
        link.setAttribute('aria-label', `${what} of ${one.id}`);
        return link;
      }));
    }
    this.draw(one, parts.time);
    row.dataset.standing = one.standing;
  }

  told(moving) {
    const step = [moving.step, moving.phase === 'copy' ? '' : moving.phase].filter(Boolean).join(' ');
    const far = moving.total ? ` ${size(moving.done)} of ${size(moving.total)}` : '';
    return `${step}${far}${moving.rate ? `, ${size(moving.rate)}/s` : ''}`;
  }

  // --- the timeline: seconds since the run began are its x

  draw(one, svg) {
    const bars = [], now = this.now, began = this.scale.began;
    const least = (this.scale.until - this.scale.from) / THIN;
    const bar = (kind, from, until, y, height, title) => {
      const made = document.createElementNS(SVG, 'rect');
      const wide = { class: kind, x: (from - began).toFixed(1), y, width: Math.max(until - from, least).toFixed(1), height };
      for (const [name, value] of Object.entries(wide)) made.setAttribute(name, value);
      if (title) {
        const words = document.createElementNS(SVG, 'title');
        words.textContent = title;
        made.append(words);
      }
      bars.push(made);
    };
    for (const [from, until] of one.window) {
      bar('window', from, until, 0, HEIGHT, `may be cut over ${clock(from, now)} to ${clock(until, now)}`);
    }
    const said = [];
    for (const [stage, step, from, ended, , error] of one.spans) {
      const [kind, y] = LANES[stage] ?? ['cutover', 23];
      const until = ended || now;
      bar(error ? `${kind} failed` : kind, from, until, error ? y - 2 : y, error ? LANE + 4 : LANE,
        `${step} ${clock(from, now)} to ${ended ? clock(ended, now) : 'now'}, ${span(until - from)}${error ? `: ${error}` : ''}`);
      if (said.at(-1)?.stage === stage) Object.assign(said.at(-1), { until: ended, failed: Boolean(error) });
      else said.push({ stage, from, until: ended, failed: Boolean(error) });
    }
    svg.replaceChildren(...bars);
    const words = said.map(({ stage, from, until, failed }) =>
      `${stage} from ${clock(from, now)} to ${until ? clock(until, now) : 'now'}${failed ? ', failed' : ''}`);
    svg.setAttribute('aria-label', words.join('; ') || 'nothing was done so far');
    const { from: left, until: right } = this.scale;
    svg.setAttribute('viewBox', `${(left - began).toFixed(0)} 0 ${Math.max(right - left, 1).toFixed(0)} ${HEIGHT}`);
  }

  // Sets what part of time is seen. `until` moves in steps, so that rows whose machines did not change are rarely touched.
  time(began, now, range, anew) {
    this.now = now;
    this.mark();
    const whole = Math.max(now - began, 60) * 1.04;
    const length = range && range < whole ? range : whole;
    const { from: before, until: end } = this.scale;
    if (!anew && this.scale.began === began && now < end && (now - before) > 0.8 * (end - before)) return;
    const from = length === range ? now - range * 0.9 : began;
    this.scale = { began, from, until: from + (length === range ? range : length * 1.08) };
    const step = [60, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800]
      .find((one) => (this.scale.until - from) / one <= 6) ?? 2592000;
    const zone = new Date(from * 1000).getTimezoneOffset() * 60, long = this.scale.until - from;
    const first = Math.ceil((from - zone) / step) * step + zone;
    const marks = [];
    for (let at = first; at < this.scale.until - step * 0.2; at += step) {
      marks.push([step >= 86400 ? clock(at, 0).slice(5, 10) : clock(at), (at - from) / long]);
    }
    for (const axis of this.axes) {
      axis.replaceChildren(...marks.map(([textContent, place]) => {
        const mark = element('span', { textContent });
        mark.style.left = `${place * 100}%`;
        return mark;
      }));
    }
    this.body.style.setProperty('--first', `${(first - from) / (long - step) * 100}%`);
    this.mark();
    this.body.style.setProperty('--step', `${step / long * 100}%`);
    for (const { one, parts } of this.all.values()) this.draw(one, parts.time);
  }

  // Where now is, as a line through all rows at once.
  mark() {
    const { from, until } = this.scale;
    this.body.style.setProperty('--now', `${((this.now - from) / (until - from) * 100).toFixed(1)}%`);
  }

  // --- order and choice

  sorted(by, down = false) {
    this.sort = { by, down };
    for (const [key, head] of this.heads) {
      if (key === by) head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    }
    this.arrange();
    this.onsort?.(by);
  }

  // Puts the rows in order and hides those that are not asked for; a row that has the focus keeps it. Returns how many are seen.
  arrange() {
    const compare = COLUMNS.get(this.sort.by)[2];
    const known = [...this.all.values()].sort((a, b) => compare(a.one, b.one) * (this.sort.down ? -1 : 1));
    const focused = document.activeElement;
    let seen = 0, before = this.none;
    for (const { one, row } of known) {
      const shown = this.shows(one);
      if (row.hidden === shown) row.hidden = !shown;
      seen += shown;
      if (before.nextSibling !== row) before.after(row);
      before = row;
    }
    this.none.hidden = seen > 0;
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus({ preventScroll: true });
    return seen;
  }
}
