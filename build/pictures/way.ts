import { arrow, box, line, svg, text } from './svg.ts';

type Station = { readonly name: string; readonly does: readonly string[]; readonly has: readonly string[] };
const STATIONS: readonly Station[] = [
  {
    name: 'message',
    does: ['“the volume', 'is attached”'],
    has: ['Nova’s or Cinder’s', 'on RabbitMQ; or', 'the command line'],
  },
  {
    name: 'agent',
    does: ['writes its plan,', 'then acts on it'],
    has: ['the journal: what', 'kill -9 leaves is', 'ended from it'],
  },
  {
    name: 'snapshot',
    does: ['one FICLONE of', 'the template'],
    has: ['blocks are shared,', '1,000 or 500,000', 'files alike'],
  },
  {
    name: 'mount',
    does: ['gets the instance’s', 'map, unseen'],
    has: ['fsmount,', 'mount_setattr(IDMAP),', 'then move_mount'],
  },
  {
    name: 'container',
    does: ['it is there, with', 'the right owners'],
    has: ['given by LXD’s or', 'Incus’ API to the', 'running container'],
  },
];
const WIDTH = 152;
const GAP = 18;
const LEFT = 20;
const TOP = 24;

/** The way of one attach, from the message to the container and back. */
export function wayPicture(): string {
  const left = (i: number) => LEFT + i * (WIDTH + GAP);
  const middle = (i: number) => left(i) + WIDTH / 2;
  const shapes = STATIONS.flatMap(({ name, does, has }, i) => [
    box(left(i), TOP, WIDTH, 84),
    text(middle(i), TOP + 26, name, { anchor: 'middle', style: 'strong', ink: name === 'mount' ? 'ours' : 'text' }),
    ...does.map((words, n) => text(middle(i), TOP + 50 + n * 19, words, { anchor: 'middle' })),
    ...has.map((words, n) =>
      text(middle(i), TOP + 108 + n * 17, words, { anchor: 'middle', style: 'small', ink: 'quiet' }),
    ),
    ...(i === 0 ? [] : [arrow('ours', [left(i) - GAP, TOP + 42], [left(i), TOP + 42])]),
  ]);
  const back = TOP + 172;
  const last = STATIONS.length - 1;
  return svg(
    {
      width: left(last) + WIDTH + LEFT,
      height: back + 42,
      title: 'The way of one attach',
      says: 'A message on RabbitMQ or a command reaches the agent, which journals its plan, makes a snapshot of the template by one FICLONE, mounts it with the instance’s id map, and hands it to the running container. The outcome goes back to the bus as an event.',
    },
    [
      ...shapes,
      line(
        'line',
        [
          [middle(last), back - 8],
          [middle(last), back + 12],
          [middle(0), back + 12],
        ],
        true,
      ),
      arrow('line', [middle(0), back + 12], [middle(0), back - 8]),
      text(middle(2), back + 30, 'back: the event shiftvol.attach.end, with the time of each step', {
        anchor: 'middle',
        style: 'small',
        ink: 'quiet',
      }),
    ],
  );
}
