const byteUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** Bytes for people, such as `12.3 MiB`. */
export function formatBytes(bytes: number): string {
  let amount = bytes;
  let unit = 0;
  while (amount >= 1023.95 && unit < byteUnits.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? amount : amount.toFixed(1)} ${byteUnits[unit]}`;
}

/** Milliseconds for people: `1.24 ms`, `830 ms`, `12.3 s`, `4m05s`, `2h10m`. */
export function formatDuration(ms: number): string {
  if (ms < 10) return `${Number(ms.toFixed(2))} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m${pad(seconds % 60)}s`;
  return `${Math.floor(minutes / 60)}h${pad(minutes % 60)}m`;
}

/** How long ago something was, such as `3 minutes ago`. */
export function formatAge(at: Date, now = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - at.getTime()) / 1000));
  const steps = [
    { unit: 'second', each: 1, below: 60 },
    { unit: 'minute', each: 60, below: 3600 },
    { unit: 'hour', each: 3600, below: 86_400 },
    { unit: 'day', each: 86_400, below: Number.POSITIVE_INFINITY },
  ];
  const step = steps.find(({ below }) => seconds < below);
  const count = Math.floor(seconds / (step?.each ?? 1));
  return `${count} ${step?.unit ?? 'second'}${count === 1 ? '' : 's'} ago`;
}

function pad(count: number): string {
  return String(count).padStart(2, '0');
}
