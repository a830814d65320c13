import type { MetricsPoint } from '../../api/index.js';

/** Numbers of a point, in the order in which they lie in memory. */
const width = 6;
/** Points that there is room for at first: most boxes live for minutes. */
const firstRoom = 60;

/** The last points of one box: numbers in one array, so that an hour of a thousand boxes fits into memory. */
export class SeriesRing {
  readonly #maxPoints: number;
  #values = new Float64Array(0);
  /** Where the oldest point is, and how many there are. */
  #first = 0;
  #count = 0;

  constructor(maxPoints: number) {
    this.#maxPoints = maxPoints;
  }

  get last(): MetricsPoint | undefined {
    return this.#count === 0 ? undefined : this.#at(this.#count - 1);
  }

  /** Adds the newest point; the oldest goes where there is no room. */
  push(point: MetricsPoint): void {
    if (this.#count === this.#room && this.#room < this.#maxPoints) this.#grow();
    if (this.#count === this.#room) this.#first = (this.#first + 1) % this.#room;
    else this.#count += 1;
    const place = ((this.#first + this.#count - 1) % this.#room) * width;
    this.#values.set(numbersOf(point), place);
  }

  /** Points later than a time, in milliseconds since 1970, oldest first. */
  after(timeMs: number): MetricsPoint[] {
    const points = Array.from({ length: this.#count }, (_, index) => this.#at(index));
    return points.filter(({ at }) => at.getTime() > timeMs);
  }

  get #room(): number {
    return this.#values.length / width;
  }

  /** Twice the room. Nothing was dropped before there is all of it, so the oldest point is the first. */
  #grow(): void {
    const room = Math.min(this.#maxPoints, Math.max(firstRoom, this.#room * 2));
    const values = new Float64Array(room * width);
    values.set(this.#values);
    this.#values = values;
  }

  #at(index: number): MetricsPoint {
    const place = ((this.#first + index) % this.#room) * width;
    const [at = 0, cpuPercent = 0, memoryBytes = 0, diskUsedBytes = 0, sent = 0, received = 0] =
      this.#values.subarray(place, place + width);
    return {
      at: new Date(at),
      cpuPercent,
      memoryBytes,
      diskUsedBytes,
      networkBytesSent: sent,
      networkBytesReceived: received,
    };
  }
}

const numbersOf = (point: MetricsPoint): number[] => [
  point.at.getTime(),
  point.cpuPercent,
  point.memoryBytes,
  point.diskUsedBytes,
  point.networkBytesSent,
  point.networkBytesReceived,
];
