// The page of a run: what the server tells is patched in as it comes; what is said at a gate goes back.
import { GATES, GateDialog, MachineDialog, lines, many } from './dialogs.js';
import { COLUMNS, LOST, Machines, STANDINGS, clock, element, put, size, span } from './machines.js';

const $ = (id) => document.getElementById(id);
const SAID_MS = 6000, TOGETHER_MS = 1500;  // what is said aloud stays so long; what comes within that is said together
const KEPT = 300;  // readings of the throughput
const GONE = 'the server is gone: v2c serve prints a new address';
const look = new URLSearchParams(location.search);
const state = { run: '', act: '', head: null, rates: [], acts: [], chosen: new Set(look.getAll('show')), events: null };
const path = (...names) => '/' + names.map(encodeURIComponent).join('/');
const address = (id, what) => path('runs', state.run, 'machines', id, what);
const windowOf = new MachineDialog({ ask: fetchMachine, address, agree: openGate });
const gateWindow = new GateDialog({ send: agree, done: say });
const table = new Machines($('rows'), $('heads'), { open: openMachine, address, axis: $('axis') });

// --- what is said aloud: a few words at a time, or a screen reader never ends

const waiting = [];
let saying = 0;
function say(text) {
  waiting.push(text);
  clearTimeout(saying);
  saying = setTimeout(() => {
    const few = waiting.length > 3 ? [...waiting.slice(0, 2), `and ${waiting.length - 2} more changes`] : waiting;
    put($('said'), few.join('; '));
    waiting.length = 0;
    saying = setTimeout(() => put($('said'), ''), SAID_MS);
  }, TOGETHER_MS);
}

// --- news

function connect(run) {
  state.events?.close();
  Object.assign(state, { run, head: null, rates: [], acts: [] });
  table.clear();
  put($('title'), run);
  document.title = `${run} · v2c`;
  for (const form of ['html', 'csv', 'json', 'junit']) $(`report-${form}`).href = path('runs', run, `report.${form}`);
  const events = state.events = new EventSource(path('runs', run, 'news'));
  events.onopen = () => linked('live');
  events.onerror = () => linked(events.readyState === EventSource.CLOSED ? GONE : 'not connected: trying again', true);
  events.onmessage = (message) => hear(JSON.parse(message.data));
}

function linked(text, broken = false) {
  put($('link'), text);
  $('link').classList.toggle('broken', broken);
}

function hear(news) {
  if (news.trouble) {
    linked(`the run cannot be read: ${news.trouble}`, true);
    return;
  }
  linked('live');
  const first = !state.head;
  if (news.whole) {
    table.clear();
    state.rates = [];
  }
  state.head = news.head;
  state.rates = [...state.rates, ...news.rates].slice(-KEPT);
  if (news.acts) state.acts = news.acts;
  seeTime(first || news.whole);
  for (const id of news.gone) table.remove(id);
  for (const one of news.rows) {
    const before = table.all.get(one.id)?.one;
    table.change(one);
    if (before && before.standing !== one.standing) sayOf(one);
    if (one.id === windowOf.shown) openMachine(one.id);
  }
  sums();
  gates();
  waves();
  workers();
  if (news.acts) acts();
  if (first) table.sorted($('sort').value);
  show();
}

function sayOf(one) {
  if (one.standing === 'gated') say(`${one.id} waits at ${one.gate}`);
  else if (LOST.includes(one.standing)) say(`${one.id} ${STANDINGS.get(one.standing)[2]}: ${one.why}`);
  else if (one.standing === 'done') say(`${one.id} is done`);
}

// --- above the table

const machines = () => [...table.all.values()].map(({ one }) => one);
const inOrder = (all) => all.sort((a, b) => a.order - b.order);
const count = (all, ...standings) => all.filter((one) => standings.includes(one.standing)).length;

function sums() {
  const all = machines(), { head } = state, done = count(all, 'done');
  const word = head.over ? 'over' : head.paused ? 'paused' : count(all, 'running') ? 'running' : 'waiting';
  put($('state'), { over: '■ over', paused: '‖ paused', running: '● running', waiting: '○ waiting' }[word]);
  $('state').className = `badge ${word === 'running' ? 'run' : 'rest'}`;
  put($('sum-done'), String(done));
  put($('sum-done-of'), `of ${all.length}`);
  $('sum-bar').value = all.length ? done / all.length : 0;
  put($('sum-rate'), `${size(head.rate)}/s`);
  curve();
  const sent = all.reduce((sum, one) => sum + one.sent, 0), data = all.reduce((sum, one) => sum + one.data, 0);
  put($('sum-sent'), size(sent));
  put($('sum-data'), data ? `of ${size(data)}` : '');
  $('sum-data').title = 'At most: zeros and holes are never sent';
  $('sum-sent-bar').value = data ? Math.min(1, sent / data) : 0;
  const down = all.filter((one) => one.downtime !== null);
  const late = down.filter((one) => one.budget !== null && one.downtime > one.budget).length;
  put($('sum-down'), down.length ? span(Math.max(...down.map((one) => one.downtime))) : '–');
  put($('sum-down-of'), down.length ? `the longest of ${down.length}` : 'nothing was cut over');
  put($('sum-late'), late ? ` ⚠ ${late} over budget` : down.length ? ', none over budget' : '');
  $('sum-late').className = late ? 'late' : 'soft';
  const lost = count(all, ...LOST), kinds = LOST.filter((kind) => count(all, kind));
  put($('sum-lost'), String(lost));
  $('sum-lost').classList.toggle('bad', lost > 0);
  put($('sum-lost-kinds'), kinds.map((kind) => kinds.length > 1 ? `${count(all, kind)} ${kind}` : kind).join(', '));
  const silent = head.workers.filter((one) => !one.alive).length;
  put($('sum-workers'), String(head.workers.length - silent));
  put($('sum-silent'), silent ? ` ⚠ ${silent} silent` : head.workers.length || head.over ? '' : ': v2c run or worker goes on');
  $('sum-silent').className = silent ? 'late' : 'soft';
  put($('source'), `${head.manifest} ${head.digest}`);
}

function curve() {
  const rates = state.rates.length > 1 ? state.rates : [...state.rates, ...state.rates.map(([at, rate]) => [at + 1, rate])];
  const most = Math.max(...rates.map(([, rate]) => rate), 1), [from] = rates[0], long = Math.max(rates.at(-1)[0] - from, 1);
  const points = rates.map(([at, rate]) => `${((at - from) / long * 300).toFixed(1)},${(28 - rate / most * 26).toFixed(1)}`);
  $('curve').firstElementChild.setAttribute('points', points.join(' '));
  const told = `Throughput of the last ${span(long)}: now ${size(state.head.rate)} a second, at most ${size(most)} a second`;
  $('curve').setAttribute('aria-label', told);
}

function gates() {
  const all = inOrder(machines()), names = Object.keys(GATES);
  for (const [at, gate] of names.entries()) {
    const waits = all.filter((one) => one.standing === 'gated' && one.gate === gate);
    let line = $(`gate-${gate}`);
    if (!waits.length) {
      if (line?.contains(document.activeElement)) $('gates-title').focus();
      line?.remove();
      continue;
    }
    if (!line) {
      line = gateLine(gate);
      const later = names.slice(at + 1).map((name) => $(`gate-${name}`)).find(Boolean);
      $('gates').insertBefore(line, later ?? null);
    }
    const who = line.querySelector('.who');
    put(who, `${many(waits.length, 'machine')}: ${waits.map((one) => one.id).join(', ')}`);
    who.title = who.textContent;
  }
  $('no-gates').hidden = $('gates').childElementCount > 0;
}

function gateLine(gate) {
  const button = (said, yes) => {
    const made = element('button', { type: 'button', textContent: `${said}…` });
    made.setAttribute('aria-label', `${said} ${gate}…`);
    made.addEventListener('click', () => openGate(gate, yes));
    return made;
  };
  const name = element('strong', { textContent: gate }), who = element('span', { className: 'who' });
  return element('li', { id: `gate-${gate}` }, name, who, button('Approve', true), button('Refuse', false));
}

function waves() {
  const body = $('waves');
  state.head.waves.forEach((name, at) => {
    const own = machines().filter((one) => one.wave === name), done = count(own, 'done');
    const numbers = [count(own, 'running'), count(own, 'gated'), count(own, ...LOST), count(own, 'waiting', 'paused')];
    if (!body.children[at]) {
      const cells = numbers.map(() => element('td', { className: 'number' }));
      const bar = element('td', {}, element('progress', { max: 1 }), element('span'));
      body.append(element('tr', {}, element('th', { scope: 'row' }), bar, ...cells));
    }
    const [title, bar, ...cells] = body.children[at].children;
    put(title, name);
    bar.firstChild.setAttribute('aria-label', `Done of ${name}`);
    bar.firstChild.value = own.length ? done / own.length : 0;
    put(bar.lastChild, `${done} of ${own.length}`);
    cells.forEach((cell, place) => put(cell, String(numbers[place])));
    cells[2].classList.toggle('late', numbers[2] > 0);
  });
  while (body.childElementCount > state.head.waves.length) body.lastElementChild.remove();
  const options = ['', ...state.head.waves];
  if ([...$('wave').options].map((one) => one.value).join('\n') !== options.join('\n')) {
    const before = $('wave').value || look.get('wave');
    $('wave').replaceChildren(...options.map((value) => element('option', { value, textContent: value || 'all' })));
    $('wave').value = options.includes(before) ? before : '';
  }
}

function acts() {
  const now = Date.now() / 1000, latest = [...state.acts].reverse().slice(0, 50);
  lines($('acts'), latest.map((act) => [clock(act.at, now), `${act.who} on ${act.host}`, act.what, act.detail]));
}

function workers() {
  const words = (one) => one.alive ? '● alive' : `⚠ silent for ${span(state.head.at - one.heard)}`;
  const rows = state.head.workers.map((one) => [one.id, words(one), one.busy, one.slots]);
  lines($('workers'), rows.length ? rows : [['–', 'nobody: v2c run or v2c worker', '', '']]);
}

// --- find, choose, sort

function seeTime(anew) {
  table.time(state.head.began || state.head.at, state.head.at, Number($('range').value), anew);
}

function show() {
  const words = $('find').value.toLowerCase().split(/\s+/).filter(Boolean), wave = $('wave').value;
  const like = (one) => {
    const text = [one.id, one.name, one.source, one.target, one.owner, one.application, one.why].join('\n').toLowerCase();
    return (!wave || one.wave === wave) && words.every((word) => text.includes(word));
  };
  table.shows = (one) => like(one) && (!state.chosen.size || state.chosen.has(one.standing));
  const seen = table.arrange();
  put($('shown'), seen === table.all.size ? many(seen, 'machine') : `${seen} of ${many(table.all.size, 'machine')}`);
  chips(machines().filter(like));
  const now = new URLSearchParams({ run: state.run, ...($('find').value && { find: $('find').value }), ...(wave && { wave }) });
  for (const one of state.chosen) now.append('show', one);
  if (`?${now}` !== location.search) history.replaceState(null, '', `?${now}`);
}

function chips(found) {
  for (const [standing, [sign, , text]] of STANDINGS) {
    const number = count(found, standing), on = state.chosen.has(standing);
    let chip = $(`chip-${standing}`);
    if (!chip) {
      chip = element('button', { type: 'button', id: `chip-${standing}` }, `${sign} ${text} `, element('b'));
      chip.addEventListener('click', () => choose(standing));
      $('chips').append(chip);
    }
    put(chip.lastChild, String(number));
    chip.setAttribute('aria-pressed', String(on));
    chip.hidden = !number && !on;
  }
}

function choose(standing) {
  if (!state.chosen.delete(standing)) state.chosen.add(standing);
  show();
}

// --- the two windows

function openMachine(id) {
  return windowOf.open(id, state.head.at);
}

async function fetchMachine(id) {
  const answer = await fetch(path('runs', state.run, 'machines', id)).catch(() => null);
  if (answer?.ok) return answer.json();
  say(answer ? `${id} cannot be shown: ${(await answer.json()).error}` : GONE);
  return null;
}

function openGate(gate, yes, only = null) {
  const waits = machines().filter((one) => one.standing === 'gated' && one.gate === gate && (!only || only.includes(one.id)));
  gateWindow.open(gate, yes, inOrder(waits));
}

async function agree(gate, yes, ids) {
  const headers = { 'Content-Type': 'application/json', 'X-V2c-Act': state.act };
  const asked = { method: 'POST', headers, body: JSON.stringify({ machines: ids }) };
  const answer = await fetch(path('runs', state.run, 'gates', gate, yes ? 'approve' : 'refuse'), asked).catch(() => null);
  return answer ? answer.json() : { error: 'the server does not answer: nothing was said' };
}

// --- beginning

async function begin() {
  const answer = await fetch('/runs'), told = await answer.json();
  if (!answer.ok) {
    linked(told.error, true);
    return;
  }
  state.act = told.act;
  put($('version'), told.version);
  $('run').replaceChildren(...told.runs.map((value) => element('option', { value, textContent: value })));
  document.querySelector('.choose').classList.toggle('one', told.runs.length < 2);
  if (!told.runs.length) {
    linked('there is no run so far: v2c run begins one');
    return;
  }
  $('run').value = told.runs.includes(look.get('run')) ? look.get('run') : told.runs[0];
  connect($('run').value);
}

for (const [value, [title, , compare]] of COLUMNS) {
  if (compare) $('sort').append(element('option', { value, textContent: value === 'order' ? 'Order' : title }));
}
$('sort').value = 'state';
$('sort').addEventListener('change', () => table.sorted($('sort').value));
table.onsort = (by) => { $('sort').value = by; };
$('find').value = look.get('find') ?? '';
$('find').addEventListener('input', show);
$('wave').addEventListener('change', show);
$('range').addEventListener('change', () => seeTime(true));
$('run').addEventListener('change', () => connect($('run').value));
document.querySelector('.tools').addEventListener('submit', (event) => event.preventDefault());
begin().catch(() => linked(GONE, true));
