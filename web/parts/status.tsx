/** The state of a box in words and colour. */
export function Status({ status, operation }: { status: string; operation: string | null }) {
  return <span class={`status status-${status}`}>{operation ?? status}</span>;
}
