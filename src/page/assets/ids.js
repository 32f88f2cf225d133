/** Who has which host ids: as a picture, and as a table that says the same. */
import { coalesced, el, facts, setText } from './dom.js';
import { IdPicture, LANES, PICTURE_HEIGHT } from './id-picture.js';
import { number, range, visible } from './text.js';
import { VirtualTable } from './virtual-table.js';

const TITLE = new Map(LANES.map(lane => [lane.name, lane.title]));

export function idsView(section, live, { showDetail }) {
  let kind = 'uid';
  let isOnlyClashes = false;
  let shown = [];
  const kinds = el(
    'div',
    { class: 'chips', role: 'group', 'aria-label': 'Which ids' },
    ...['uid', 'gid'].map(name =>
      el(
        'button',
        {
          type: 'button',
          class: 'chip',
          id: `kind-${name}`,
          'aria-pressed': String(name === kind),
          onclick: () => choose(name),
        },
        `${name}s`,
      ),
    ),
  );
  const overlapsOnly = el('button', {
    type: 'button',
    class: 'chip bad',
    'aria-pressed': 'false',
    onclick: toggleClashes,
  });
  const canvas = el('canvas', { class: 'id-picture', tabIndex: 0, role: 'img', 'aria-describedby': 'id-hint' });
  canvas.style.height = `${PICTURE_HEIGHT}px`;
  const says = el('p', { class: 'id-says' });
  const picture = new IdPicture({
    canvas,
    onHover: claim => setText(says, claim ? sentence(claim) : ''),
    onChoose: claim => claim && open(claim),
    onView: ({ start, span }) =>
      canvas.setAttribute(
        'aria-label',
        `Host ${kind}s ${number(Math.round(start))} to ${number(Math.round(start + span))}. The table below says the same.`,
      ),
  });
  const button = (text, label, work) =>
    el('button', { type: 'button', 'aria-label': label, title: label, onclick: work }, text);
  const table = new VirtualTable({
    label: 'Ranges of host ids',
    columns: [
      { name: 'range', title: 'Host ids', text: range, order: claim => claim.start },
      { name: 'number', title: 'Count', text: claim => number(claim.count), order: claim => claim.count },
      {
        name: 'lane',
        title: 'Kind',
        text: claim => TITLE.get(claim.lane) ?? claim.lane,
        tone: claim => `lane-${claim.lane}`,
      },
      { name: 'owner', title: 'Owner', text: claim => claim.label },
      {
        name: 'clash',
        title: 'Overlaps',
        text: clashText,
        tone: claim => (claim.clashes ? 'bad' : ''),
        order: claim => -(claim.clashes?.length ?? 0),
      },
    ],
    keyOf: claim => claim.key,
    onOpen: open,
    sort: { name: 'range', down: false },
    empty: 'Nobody has ids here that this would show.',
  });
  section.append(
    el(
      'div',
      { class: 'toolbar' },
      kinds,
      overlapsOnly,
      el(
        'div',
        { class: 'zoom', role: 'group', 'aria-label': 'The picture' },
        button('−', 'Farther', () => picture.zoom(1 / 0.6)),
        button('+', 'Nearer', () => picture.zoom(0.6)),
        button('Fit', 'All that is in use', () => picture.fit()),
        button('All', 'All 4,294,967,296 ids', () => picture.whole()),
      ),
      el(
        'p',
        { class: 'quiet hint-inline', id: 'id-hint' },
        'Wheel or ↑↓: nearer, farther. Drag or ←→: along. 0: fit.',
      ),
    ),
    canvas,
    says,
    table.element,
  );

  function choose(name) {
    kind = name;
    for (const one of ['uid', 'gid'])
      document.getElementById(`kind-${one}`).setAttribute('aria-pressed', String(one === kind));
    draw();
  }

  function toggleClashes() {
    isOnlyClashes = !isOnlyClashes;
    overlapsOnly.setAttribute('aria-pressed', String(isOnlyClashes));
    draw();
  }

  function open(claim) {
    picture.chosen = claim;
    picture.zoomTo(claim);
    table.choose(claim.key);
    setText(says, sentence(claim));
    const body = [
      facts([
        ['host ids', range(claim)],
        ['count', number(claim.count)],
        ['kind', LANES.find(lane => lane.name === claim.lane)?.says],
        ['owner', visible(claim.owner, 1000)],
      ]),
      ...(claim.clashes
        ? [
            el('h3', {}, 'Overlaps'),
            el(
              'ul',
              { class: 'plain' },
              ...claim.clashes.map(clash =>
                el('li', {}, `${range(clash)}: `, el('bdi', {}, visible(clash.owner, 300))),
              ),
            ),
          ]
        : []),
    ];
    showDetail({
      title: `${kind}s ${range(claim)}`,
      body,
      isNew: true,
      owner: 'ids',
      onClose: () => {
        picture.chosen = undefined;
        table.focus();
      },
    });
  }

  const draw = coalesced(() => {
    const all = [...live.rows('ids').values()];
    for (const claim of all) claim.label ??= labelOf(claim);
    const clashes = all.filter(claim => claim.clashes);
    shown = all.filter(claim => claim.kind === kind).toSorted((a, b) => a.start - b.start || b.count - a.count);
    picture.claims = merged(shown);
    table.rows = isOnlyClashes ? shown.filter(claim => claim.clashes) : shown;
    setText(overlapsOnly, `overlaps ${number(shown.filter(claim => claim.clashes).length)}`);
    const count = document.getElementById('count-ids');
    setText(count, clashes.length > 0 ? `${number(clashes.length)} overlapping` : '');
    count.classList.toggle('bad', clashes.length > 0);
  }, 250);
  live.on('ids', draw);
  return { focus: () => table.focus() };
}

/** Two that have the very same range are one bar with two names. */
function merged(claims) {
  const bars = new Map();
  for (const claim of claims) {
    const place = `${claim.lane} ${claim.start} ${claim.count}`;
    const bar = bars.get(place);
    bars.set(
      place,
      bar
        ? { ...bar, label: `${bar.label}, ${claim.label}`.slice(0, 200), clashes: bar.clashes ?? claim.clashes }
        : claim,
    );
  }
  return [...bars.values()];
}

/** What an owner is called in a picture: without what its lane says already. */
function labelOf({ owner }) {
  const [, name] = /^shiftvol (.+)$/s.exec(owner) ?? /^\S+ container "([^"]+)"/.exec(owner) ?? [];
  const [, pid, comm] = /\(pid (\d+)(?:, (.+))?\)$/s.exec(owner) ?? [];
  return visible(name ?? (pid === undefined ? owner : `${comm ?? 'process'} (pid ${pid})`), 80);
}

function clashText({ clashes }) {
  if (!clashes) return '';
  const [first] = clashes;
  return `${range(first)} with ${first.owner}${clashes.length > 1 ? ` and ${clashes.length - 1} more` : ''}`;
}

function sentence(claim) {
  const clash = claim.clashes ? `; overlaps: ${clashText(claim)}` : '';
  return visible(`${TITLE.get(claim.lane)} ${claim.label}: ${range(claim)} (${number(claim.count)} ids)${clash}`, 300);
}
