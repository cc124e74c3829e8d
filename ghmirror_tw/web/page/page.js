// Shows the status document, /status.json, and a notice when it cannot be fetched.
'use strict';

const EVERY_MS = 2000; // between a response, or a failure, and the next request
const LATE_MS = 6000; // the timeout of a response
const MINUTES = 60;
const STEP = 5;
const ROWS = 12; // of each table by user
const SVG = 'http://www.w3.org/2000/svg';

const OUTCOMES = [
  ['revalidated', '304 to the validator of its own response'],
  ['shared', '304 to the validator of another response'],
  ['empty', '304 to the validator of an empty list'],
  ['fresh', 'stored response, validated within fresh_for'],
  ['negative', 'stored 404, 410 or 301, repeated'],
  ['stale', 'old response: GitHub fails, is slow, or limits the user'],
  ['miss', 'spent: no stored response'],
  ['changed', 'spent: the response has changed'],
  ['pass', 'forwarded'],
  ['error', "error response of the mirror"],
];

const get = (id) => document.getElementById(id);

// Numbers and times as text; null means unknown.

const UNKNOWN = '–';
const count = (n) => (n === null ? UNKNOWN : n.toLocaleString('en'));
const counted = (n, noun) => `${count(n)} ${noun}${n === 1 ? '' : 's'}`;
const percent = (part, whole) =>
  whole ? `${((100 * part) / whole).toFixed(part === whole || !part ? 0 : 1)} %` : UNKNOWN;

function milliseconds(s) {
  if (s === null) return UNKNOWN;
  const ms = s * 1000;
  if (ms < 0.1) return '<0.1';
  return ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString('en');
}

function bytes(n) {
  if (n === null) return UNKNOWN;
  let unit = 0;
  for (; n >= 1024 && unit < 4; unit += 1) n /= 1024;
  const name = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'][unit];
  return `${unit ? n.toFixed(1) : n} ${name}`;
}

function period(s) {
  s = Math.max(0, Math.round(s));
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = units.findIndex(([length]) => s >= length);
  if (first < 0) return '0 s';
  const [length, name] = units[first];
  const next = units[first + 1];
  const rest = next ? Math.floor((s % length) / next[0]) : 0;
  return `${Math.floor(s / length)} ${name}${rest ? ` ${rest} ${next[1]}` : ''}`;
}

function clock(s) {
  s = Math.max(0, Math.ceil(s));
  const parts = [Math.floor(s / 3600), Math.floor(s / 60) % 60, s % 60];
  if (!parts[0]) parts.shift();
  return parts.map((n, i) => (i ? String(n).padStart(2, '0') : n)).join(':');
}

const seconds = (s) => (s < 0.1 ? '<0.1\u00a0s' : s < 10 ? `${s.toFixed(1)}\u00a0s` : period(s));

// Elements are changed only if their text differs, so that nothing flickers or loses the focus.

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function drawing(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Cells are texts, or {text, class, node, until, over}; the first one names its row.
function fill(table, rows, nothing) {
  const body = table.tBodies[0];
  const columns = table.tHead.rows[0].cells;
  const shown = rows.length ? rows : [[{ text: nothing, class: 'none', all: columns.length }]];
  while (body.rows.length > shown.length) body.deleteRow(-1);
  shown.forEach((cells, r) => {
    const row = body.rows[r] || body.insertRow();
    if (row.cells.length !== cells.length || row.cells[0].colSpan !== (cells[0].all || 1)) {
      row.replaceChildren(...cells.map((cell, c) => {
        const made = make(c || cell.all ? 'td' : 'th');
        if (!c && !cell.all) made.scope = 'row';
        if (cell.all) made.colSpan = cell.all;
        return made;
      }));
    }
    cells.forEach((cell, c) => put(row.cells[c], cell, cell.all ? '' : columns[c].className));
  });
}

function put(element, cell, base) {
  const told = typeof cell === 'string' ? { text: cell } : cell; // or of a node, or until a time
  const className = [base, told.class].filter(Boolean).join(' ');
  if (element.className !== className) element.className = className;
  if (told.until === undefined) delete element.dataset.until;
  else {
    element.dataset.until = told.until;
    element.dataset.over = told.over;
    element.dataset.before = told.before || '';
  }
  if (told.node) element.replaceChildren(told.node);
  else if (told.until === undefined) setText(element, told.text);
}

function facts(list, rows) {
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(([name, value], r) => {
    const row = list.children[r] || list.appendChild(make('div'));
    if (!row.firstChild) row.append(make('dt'), make('dd'));
    setText(row.firstChild, name);
    put(row.lastChild, value, '');
  });
}

function tiles(list, shown) {
  shown.forEach(([name, figure, beside, className], t) => {
    const tile = list.children[t] || list.appendChild(make('div'));
    if (!tile.firstChild) tile.append(make('dt'), make('dd', 'figure'), make('dd', 'beside'));
    if (tile.className !== (className || '')) tile.className = className || '';
    setText(tile.children[0], name);
    put(tile.children[1], { text: figure, class: className }, 'figure');
    put(tile.children[2], beside, 'beside');
  });
}

// The parts of the page.

let ahead = 0; // how much the mirror's clock is ahead of the browser's, in seconds
const now = () => Date.now() / 1000 + ahead;
const ago = (at) => (at === null ? UNKNOWN : `${period(now() - at)} ago`);

// Several replicas on a host differ by the port.
const nameOf = (figures) => figures.replica + (location.port ? `:${location.port}` : '');

function redisState({ breaker }) {
  if (breaker.reading && breaker.writing) return 'in use';
  if (!breaker.fallback) return 'unavailable, nothing is stored';
  if (breaker.reading) return 'read only, memory stands in for writing';
  return 'unavailable, memory stands in';
}

// Where Redis is, and why it is unavailable.
const redisReason = ({ breaker }) => [breaker.address, breaker.reason].filter(Boolean).join(': ');

// What an operator has to know first, a sentence each.
function problems(figures) {
  const { state, github, store } = figures;
  const found = [];
  if (!['ready', 'degraded'].includes(state)) found.push(`Not ready: ${state}.`);
  if (!github.available) {
    found.push('GitHub is unavailable. Stored responses are sent as stale ones; other requests fail.');
  }
  if (store.breaker && !(store.breaker.reading && store.breaker.writing)) {
    found.push(`Redis is ${redisState(store)}.${store.breaker.fallback ? '' : ' Each request costs quota.'}`);
    found.push(`${redisReason(store)}.`);
  }
  return found;
}

function showPill(text, className) {
  const pill = get('state');
  pill.hidden = false;
  put(pill, { text, class: className }, 'pill');
}

function showHead(figures) {
  setText(get('replica'), nameOf(figures));
  const { sharing, state } = figures;
  showPill(state, { ready: 'good', degraded: 'warn' }[state] || 'bad');
  const shares = sharing.enabled ? 'sharing on' : sharing.wanted ? 'sharing suspended' : 'sharing off';
  setText(get('about'), [
    `version ${figures.version}`,
    `up ${period(figures.at - figures.started_at)}`,
    shares + (sharing.enabled && !sharing.lists ? ', one entity-tag at a time' : ''),
    `${count(figures.in_flight)} in flight`,
  ].join(' · '));
  document.title = `${state === 'ready' ? '' : '! '}${nameOf(figures)} · ghmirror`;
}

function githubTile({ github }) {
  const page = github.page === null ? 'no status page'
    : github.page.status === null ? 'status page not fetched yet'
      : `status page: ${githubPage(github.page)}`;
  const failures = github.failures ? `, ${counted(github.failures, 'failure')} in a row` : '';
  const well = !failures && (!github.page || [null, 'operational'].includes(github.page.status));
  const why = github.reason ? `${github.reason}, ` : '';
  return ['GitHub', github.available ? 'available' : 'unavailable', why + page + failures,
    github.available ? (well ? 'good' : 'warn') : 'bad'];
}

function storeTile({ store }) {
  if (!store.breaker) return ['Store', 'memory', 'available', 'good'];
  const well = store.breaker.reading && store.breaker.writing;
  const instead = store.breaker.fallback ? 'memory' : 'none';
  return ['Store', well ? 'Redis' : instead, well ? 'in use' : `Redis ${redisState(store)}`,
    well ? 'good' : store.breaker.fallback ? 'warn' : 'bad'];
}

function limitsTile({ stops }) {
  if (!stops.length) return ['Rate limits', 'none', 'in force', 'good'];
  const next = stops.reduce((a, b) => (a.until < b.until ? a : b));
  return ['Rate limits', count(stops.length), { until: next.until, before: 'in force, next ends ', over: 'in force, next has ended' }, 'warn'];
}

function snapshotsTile({ snapshots }) {
  if (snapshots === null) return ['Snapshots', 'none', 'a restart costs quota', ''];
  const { save, restore, foreign, foreign_option: option, restoring, target } = snapshots;
  const saved = save.at === null ? 'none yet' : ago(save.at);
  const failed = [['save', save], ['restore', restore]].filter(([, each]) => each.error !== null);
  if (failed.length) {
    const reasons = failed.map(([name, { error }]) => `${name} failed: ${error.replace(`${target}: `, '')}`);
    if (restoring) reasons.push('nothing is saved until it succeeds');
    return ['Snapshots', saved, reasons.join('; '), 'warn'];
  }
  if (foreign && restore.at === null) {
    return ['Snapshots', saved, `${count(foreign)} not used: of another ${option}`, 'warn'];
  }
  if (snapshots.filling || restoring) return ['Snapshots', saved, 'the store is being restored', 'warn'];
  return ['Snapshots', saved, snapshots.next_at === null ? 'being saved'
    : { until: snapshots.next_at, before: 'next ', over: 'next now' }, 'good'];
}

function showTiles(figures) {
  const { quota, charges, hour, latencies, requests } = figures;
  const requested = latencies.requests['5m'];
  const whole = hour.saved + hour.spent;
  tiles(get('state-tiles'), [
    githubTile(figures), storeTile(figures), limitsTile(figures), snapshotsTile(figures),
  ]);
  tiles(get('tiles'), [
    ['Saved in the last hour', count(hour.saved), whole ? `${percent(hour.saved, whole)} free; ${count(quota.saved)} in total` : 'no requests yet'],
    ['Spent in the last hour', count(hour.spent), `${count(quota.spent)} in total${unusual(charges)}`],
    ['Requests in the last hour', count(hour.requests), `${count(requests.total)} in total; ${count(figures.collapsed)} joined another`],
    ['p95 of requests', requested.count ? `${milliseconds(requested.p95)} ms` : UNKNOWN,
      `p50 ${milliseconds(requested.p50)}, last 5 min`],
  ]);
}

// Charged 304s and time-outs, which may have been charged; usually there are none.
const unusual = (charges) => (charges.not_modified ? `, ${count(charges.not_modified)} for 304s` : '')
  + (charges.unknown ? `, ${count(charges.unknown)} timed out` : '');

const githubPage = (page) => page.status.replaceAll('_', ' ');

// The hour in slots of a minute; the last one is the current minute.
function slots(figures) {
  const last = Math.floor(figures.at / 60);
  const made = Array.from({ length: MINUTES }, () => ({}));
  for (const minute of figures.hour.minutes) {
    const slot = made[MINUTES - 1 - (last - Math.floor(minute.at / 60))];
    if (!slot) continue;
    for (const [name, n] of Object.entries(minute.outcomes)) slot[name] = (slot[name] || 0) + n;
  }
  return made;
}

const sum = (slot) => Object.values(slot).reduce((all, n) => all + n, 0);

function showOutcomes(figures) {
  const { hour, requests } = figures;
  const known = OUTCOMES.filter(([name]) => requests.outcomes[name]);
  fill(get('outcomes'), known.map(([name, meaning]) => {
    const label = make('span');
    label.append(make('span', `swatch ${name}`), name);
    return [{ node: label }, meaning, count(hour.outcomes[name] || 0), count(requests.outcomes[name])];
  }), 'No requests yet.');
  const made = slots(figures);
  const highest = Math.max(...made.map(sum));
  showChart(made, highest);
  setText(get('top'), highest ? `${count(highest)} a minute` : '');
  const told = known.filter(([name]) => hour.outcomes[name])
    .map(([name]) => `${count(hour.outcomes[name])} ${name}`).join(', ');
  setText(get('chart-text'), hour.requests
    ? `${count(hour.requests)} requests: ${told}.`
    : requests.total ? 'No requests in the last hour.' : 'No requests yet.');
  setText(get('rate'), hour.requests ? 'by outcome, minute by minute' : '');
  showSteps(made, known);
}

function showChart(made, highest) {
  const bars = made.flatMap((slot, s) => {
    let y = 100;
    return OUTCOMES.filter(([name]) => slot[name]).map(([name]) => {
      const height = (96 * slot[name]) / highest;
      y -= height;
      return drawing('rect', { class: name, x: s + 0.08, y, width: 0.84, height });
    });
  });
  get('chart').replaceChildren(...bars);
}

function showSteps(made, known) {
  const table = get('steps');
  const names = known.map(([name]) => name);
  const head = ['From', ...names];
  if (table.tHead.textContent !== head.join('')) {
    const row = make('tr');
    row.append(...head.map((text, c) => {
      const cell = make('th', c ? 'n' : '', text);
      cell.scope = 'col';
      return cell;
    }));
    table.tHead.replaceChildren(row);
  }
  const rows = [];
  for (let s = 0; s < MINUTES; s += STEP) {
    const group = made.slice(s, s + STEP);
    rows.push([`${MINUTES - s} min ago`,
      ...names.map((name) => count(group.reduce((all, slot) => all + (slot[name] || 0), 0)))]);
  }
  fill(table, rows, '');
}

const some = (rows, element, what) => {
  const more = rows.length - ROWS;
  setText(element, more > 0 ? `and ${count(more)} more ${what}; status.json has them all` : '');
  return rows.slice(0, ROWS);
};

function showUsers(figures) {
  fill(get('users'), some(figures.quota.users, get('users-more'), 'users').map((each) => [
    each.user, count(each.saved), count(each.spent), percent(each.saved, each.saved + each.spent),
  ]), 'No requests yet.');
}

function left({ remaining, limit }) {
  const cell = make('span', '', count(remaining));
  if (limit !== null) cell.append(make('small', '', ` of ${count(limit)}`));
  return cell;
}

function showLimits(figures) {
  get('limits-card').hidden = !figures.stops.length;
  fill(get('stops'), some(figures.stops, get('stops-more'), 'limits').map((each) => [
    each.user + (each.credentials > 1 ? ` (${count(each.credentials)} credentials)` : ''),
    { text: each.kind + (each.resource ? ` limit of ${each.resource}` : ' limit'), class: 'warn' },
    { until: each.until, over: 'expired' },
  ]), 'None.');
  const known = figures.quota.remaining;
  const remaining = known.filter((each) => each.resets_at > now());
  fill(get('quotas'), some(remaining, get('quotas-more'), 'quotas').map((each) => [
    each.user, each.resource, { node: left(each), class: each.remaining ? '' : 'bad' },
    { until: each.resets_at, over: 'reset' },
  ]), known.length ? 'All quotas are full again.' : 'No quota received yet.');
}

function showLatencies(figures) {
  const rows = [['requests', 'Requests'], ['github', 'GitHub'], ['store', 'Store']];
  const windows = [['5m', '5 min'], ['1h', 'hour']];
  fill(get('latencies'), rows.flatMap(([key, name]) => windows.map(([window, length]) => {
    const told = figures.latencies[key][window];
    return [name, length, ...['p50', 'p90', 'p95', 'p99'].map((q) => milliseconds(told[q])), count(told.count)];
  })), '');
}

function showStore(figures) {
  const { store } = figures;
  const rows = [['Kind', store.backend]];
  const { breaker } = store;
  if (breaker) {
    const well = breaker.reading && breaker.writing;
    rows.push(['Redis', { text: redisState(store), class: well ? 'good' : breaker.fallback ? 'warn' : 'bad' }]);
    if (!well) {
      if (breaker.address) rows.push(['Address', breaker.address]);
      rows.push(['Reason', { text: breaker.reason, class: 'bad' }], ['Unavailable since', ago(breaker.since)]);
    }
  }
  for (const each of store.stores) {
    const beside = store.stores.length > 1 ? `${each.store}: ` : '';
    const most = each.store === 'memory' ? ` of ${bytes(store.limit)}` : '';
    rows.push([`${beside}size`, bytes(each.bytes) + most]);
    if (each.representations !== null) {
      rows.push([`${beside}records`, `${counted(each.representations, 'representation')}, ${counted(each.grants, 'grant')}`]);
    }
    rows.push([`${beside}evictions`, count(each.evictions)]);
  }
  facts(get('store'), rows.map(([name, value]) => [name[0].toUpperCase() + name.slice(1), value]));
}

function showGitHub(figures) {
  const { github } = figures;
  const rows = [
    ['API', github.api_url],
    ['State', github.available ? { text: 'available', class: 'good' } : { text: 'unavailable, serving stale responses', class: 'bad' }],
    ...(github.reason ? [['Reason', { text: github.reason, class: 'bad' }]] : []),
    ['Failures in a row', { text: count(github.failures), class: github.failures ? 'warn' : '' }],
  ];
  if (github.page === null) rows.push(['Status page', 'not configured']);
  else if (github.page.status === null) rows.push(['Status page', 'not fetched yet']);
  else {
    const well = github.page.status === 'operational';
    rows.push(['Status page', { text: `${githubPage(github.page)}, fetched ${ago(github.page.at)}`, class: well ? '' : 'warn' }]);
  }
  facts(get('github'), rows);
}

function showSnapshots(figures) {
  const { snapshots } = figures;
  if (snapshots === null) {
    facts(get('snapshots'), [['Target', 'none: a lost store costs quota again']]);
    return;
  }
  const told = (each) => (each.at === null ? 'none by this replica'
    : `${ago(each.at)}, ${bytes(each.bytes)}, ${counted(each.records, 'record')} in ${seconds(each.seconds)}`);
  const { save, restore, foreign, foreign_option: option } = snapshots;
  const failures = save.failures + restore.failures;
  const rows = [
    ['Target', snapshots.target],
    ['Last save', told(save)],
    ['Next', snapshots.restoring ? 'after the restore' : snapshots.next_at === null ? 'in progress' : { until: snapshots.next_at, over: 'now' }],
    ['Last restore', snapshots.filling ? 'in progress' : told(restore)],
    ['Failures', failures ? `${count(save.failures)} saving, ${count(restore.failures)} restoring, since the start` : 'none'],
  ];
  for (const [name, each] of [['Save failed', save], ['Restore failed', restore]]) {
    if (each.error !== null) rows.push([name, { text: each.error, class: 'bad' }]);
  }
  if (foreign) {
    rows.push(['Not used', { text: `${count(foreign)} of another ${option}`, class: 'warn' }]);
  }
  facts(get('snapshots'), rows);
}

const SHARES = 10; // rows of each table of shares

function showShares(id, key, all, nothing) {
  const shown = all.slice(0, SHARES);
  const most = shown.length ? shown[0].share : 1;
  fill(get(id), shown.map((each) => {
    const bar = drawing('svg', { viewBox: '0 0 100 1', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    bar.append(drawing('rect', { x: 0, y: 0, height: 1, width: (100 * each.share) / most }));
    return [percent(each.share, 1), { node: bar }, each[key]];
  }), nothing);
}

function showPaths(figures) {
  showShares('paid', 'operation', figures.paths.paid, 'Nothing has been charged yet.');
  showShares('paths', 'path', figures.paths.busiest, 'No requests yet.');
}

function tick() {
  for (const element of document.querySelectorAll('[data-until]')) {
    const left = Number(element.dataset.until) - now();
    setText(element, left > 0 ? `${element.dataset.before}in ${clock(left)}` : element.dataset.over);
  }
  showLate();
}

// Requests to the mirror, and the notice of their failure.

let version = null;
let shownAt = null; // when the last document was received, by the browser's clock
let failedSince = null;
let timer = null;
let request = null;

function notice(text, className) {
  const element = get('notice');
  if (element.dataset.text === text) return;
  element.dataset.text = text;
  element.className = `notice ${text && className}`;
  element.textContent = text;
}

function showLate() {
  const isLate = failedSince !== null;
  document.documentElement.classList.toggle('late', isLate && shownAt !== null);
  if (isLate && shownAt !== null) {
    const at = new Date(shownAt).toLocaleTimeString('en-GB');
    notice(`The mirror does not respond. Last update: ${at}.`, 'bad');
  } else if (isLate) notice('The mirror does not respond.', 'bad');
  if (isLate) {
    showPill('no response', 'bad');
    document.title = `! ${document.title.replace(/^! /, '')}`;
  }
}

function show(figures) {
  if (version !== null && version !== figures.version) {
    window.location.reload();
    return;
  }
  version = figures.version;
  ahead = figures.at - Date.now() / 1000;
  get('figures').hidden = false;
  for (const part of [showHead, showTiles, showOutcomes, showUsers, showLimits, showLatencies,
    showStore, showGitHub, showSnapshots, showPaths]) part(figures);
}

// Shows a document, and returns the text of an error.
function shown(figures) {
  try {
    show(figures);
  } catch (error) {
    console.error(error);
    return `This status cannot be shown: ${error.message}`;
  }
  return '';
}

async function update() {
  if (request) return;
  window.clearTimeout(timer);
  request = new AbortController();
  const late = window.setTimeout(() => request.abort(), LATE_MS);
  try {
    const response = await fetch('/status.json', { cache: 'no-store', signal: request.signal });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const figures = await response.json();
    failedSince = null;
    shownAt = Date.now();
    const wrong = shown(figures);
    const found = wrong ? [] : problems(figures);
    if (wrong) showPill('not shown', 'bad');
    notice(wrong || found.join(' '), wrong || !['ready', 'degraded'].includes(figures.state) ? 'bad' : 'warn');
  } catch (error) {
    if (failedSince === null) failedSince = Date.now();
    console.warn(error);
  } finally {
    window.clearTimeout(late);
    request = null;
  }
  tick();
  if (!document.hidden) timer = window.setTimeout(update, EVERY_MS);
}

document.addEventListener('visibilitychange', () => { if (!document.hidden) update(); });
window.setInterval(tick, 1000);
update();
