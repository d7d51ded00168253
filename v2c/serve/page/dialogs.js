// Two windows over the page: one machine in full, and what somebody agrees to or refuses at a gate.
import { badge, clock, element, put, size, span } from './machines.js';

const $ = (id) => document.getElementById(id);
export const GATES = {
  okToTest: 'An isolated copy of each is booted at its target and compared. The sources are not touched.',
  okToCutover: 'Each is launched for real at its target, as soon as its window lets it; from then on the target takes writes.',
  okToFinalize: 'What only the migration needed is removed at targets and sources. There is no way back.',
};
const NO = 'They stop here. Nothing is undone; a yes, or v2c retry, takes them up again.';
export const many = (number, one, more = `${one}s`) => `${number} ${number === 1 ? one : more}`;

// Rows of a small table: made once, then their cells' text is set. Numbers stand to the right.
export function lines(body, rows) {
  while (body.childElementCount > rows.length) body.lastElementChild.remove();
  rows.forEach((cells, at) => {
    const made = () => element('tr', {}, ...cells.map((_, place) => place ? element('td') : element('th', { scope: 'row' })));
    const row = body.children[at] ?? body.appendChild(made());
    cells.forEach((cell, place) => {
      put(row.children[place], String(cell));
      row.children[place].classList.toggle('number', typeof cell === 'number');
    });
  });
}

// --- one machine

export class MachineDialog {
  // `ask(id)` fetches a machine; `address(id, what)` says where its report is; `agree(gate, yes, ids)` opens the other window.
  constructor({ ask, address, agree }) {
    Object.assign(this, { ask, address, agree, shown: '' });
    $('machine-close').addEventListener('click', () => $('machine').close());
    $('machine').addEventListener('close', () => { this.shown = ''; });
  }

  async open(id, now) {
    this.shown = id;
    const one = await this.ask(id);
    if (!one || this.shown !== id) return;
    const mark = element('span');
    badge(mark, one.standing);
    put($('machine-title'), one.name && one.name !== one.id ? `${one.id} (${one.name})` : one.id);
    $('machine-body').replaceChildren(
      element('p', {}, mark, ' ', [one.why, one.remedy].filter(Boolean).join(': '), ' ', ...this.links(one), ...this.gates(one)),
      element('dl', {}, ...this.facts(one, now).map(([title, value]) =>
        element('div', {}, element('dt', { textContent: title }), element('dd', { textContent: value })))),
      ...this.part('Findings', ['Level', 'About', 'Finding', 'Remedy'], 'None.',
        one.told.map((found) => [found.level, found.subject, found.text, found.remedy || '–'])),
      ...this.part('Steps', ['Step', 'Stage', 'Began', 'Took', 'Moved', 'Worker', 'What went wrong'], 'Nothing was done so far.',
        one.steps.reverse().map((step) => [
          step.step, step.stage, clock(step.began, now), this.took(step, now), step.bytes ? size(step.bytes) : '–', step.worker,
          step.error || '–',
        ])),
      ...this.part('Who did what', ['When', 'Who', 'What', 'Which'], 'Nobody did anything.',
        one.acts.map((act) => [clock(act.at, now), `${act.who} on ${act.host}`, act.what, act.detail])));
    if (!$('machine').open) $('machine').showModal();
  }

  took(step, now) {
    return `${span((step.ended || now) - step.began)}${step.ended ? '' : ' so far'}`;
  }

  facts(one, now) {
    const window = one.opens ? `${clock(one.opens, now)} to ${clock(one.closes, now)} (given in ${one.zone})` : '';
    return [
      ['Stage', `${one.stage}, ${one.mode}`],
      ['From', one.source],
      ['To', one.target],
      ['Owner', one.owner],
      ['Application', one.application],
      ['Depends on', one.depends_on.join(', ')],
      ['Window', window],
      ['Sent', one.data ? `${size(one.sent)} of at most ${size(one.data)}` : ''],
      ['Downtime', one.downtime === null ? '' : span(one.downtime)],
      ['Budget', one.budget === null ? '' : span(one.budget)],
      ['Checks', one.verdict],
      ['Agreed', one.approvals.map(([gate, who]) => `${gate}: ${who}`).join('; ')],
      ['Cut over', one.cut_over],
      ['Finalized', one.finalized],
      ['Rolled back', one.rolled_back],
      ['Worker', one.worker],
      ['Job', one.job],
    ].filter(([, value]) => value);
  }

  links(one) {
    return (one.report ? ['report', 'console'] : []).flatMap((what) => {
      const link = element('a', { href: this.address(one.id, what), target: '_blank', rel: 'noopener', textContent: what });
      link.setAttribute('aria-label', `${what} of ${one.id}`);
      return [link, ' '];
    });
  }

  gates(one) {
    if (one.standing !== 'gated') return [];
    return [['Approve', true], ['Refuse', false]].flatMap(([said, yes]) => {
      const made = element('button', { type: 'button', textContent: `${said} ${one.gate}…` });
      made.addEventListener('click', () => {
        $('machine').close();
        this.agree(one.gate, yes, [one.id]);
      });
      return [made, ' '];
    });
  }

  part(title, heads, none, rows) {
    const head = element('tr', {}, ...heads.map((textContent) => element('th', { scope: 'col', textContent })));
    const caption = element('caption', { className: 'hidden', textContent: title });
    const table = element('table', {}, caption, element('thead', {}, head), element('tbody'));
    lines(table.tBodies[0], rows);
    const scroll = { className: 'scroll', tabIndex: 0, role: 'region', ariaLabel: title };
    const shown = rows.length ? element('div', scroll, table) : element('p', { className: 'soft', textContent: none });
    return [element('h3', { textContent: title }), shown];
  }
}

// --- agreeing

export class GateDialog {
  // `send(gate, yes, ids)` tells the server, and answers {heard} or {error}; `done(words)` says what came of it.
  constructor({ send, done }) {
    Object.assign(this, { send, done, gate: '', yes: true });
    $('gate-all').addEventListener('click', () => this.choose(true));
    $('gate-none').addEventListener('click', () => this.choose(false));
    $('gate-list').addEventListener('change', () => this.count());
    $('gate-do').addEventListener('click', () => this.agree());
  }

  open(gate, yes, waits) {
    Object.assign(this, { gate, yes });
    put($('gate-title'), `${yes ? 'Approve' : 'Refuse'} ${gate}`);
    put($('gate-text'), yes ? GATES[gate] : NO);
    put($('gate-error'), '');
    $('gate-do').classList.toggle('no', !yes);
    $('gate-list').replaceChildren(...waits.map((one) => {
      const box = element('input', { type: 'checkbox', checked: true, value: one.id });
      return element('li', {}, element('label', {}, box, element('span', { textContent: `${one.id} to ${one.target}` })));
    }));
    this.count();
    $('gate').showModal();
    $('gate-cancel').focus();  // Enter twice agrees to nothing
  }

  get boxes() {
    return [...$('gate-list').querySelectorAll('input')];
  }

  choose(all) {
    for (const box of this.boxes) box.checked = all;
    this.count();
  }

  count() {
    const number = this.boxes.filter((box) => box.checked).length;
    put($('gate-do'), `${this.yes ? 'Approve' : 'Refuse'} ${many(number, 'machine')}`);
    $('gate-do').disabled = !number;
  }

  async agree() {
    const ids = this.boxes.filter((box) => box.checked).map((box) => box.value);
    $('gate-do').disabled = true;
    const answer = await this.send(this.gate, this.yes, ids);
    $('gate-do').disabled = false;
    if (answer.error) {
      put($('gate-error'), answer.error);
      return;
    }
    $('gate').close();
    const missed = ids.length - answer.heard.length;
    const rest = missed ? `; ${many(missed, 'machine')} no longer waited there` : '';
    this.done(`${this.yes ? 'approved' : 'refused'} ${this.gate} for ${many(answer.heard.length, 'machine')}${rest}`);
  }
}
