// Groups of which one member is a tab stop and the arrow keys reach the rest: tabs, chips.

/** Which member an arrow key leads to, going round at the ends; nothing for other keys. */
export function arrowTo(event: KeyboardEvent, at: number, count: number): number | null {
  const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  if (step === 0 || count === 0) return null;
  event.preventDefault();
  return (at + step + count) % count;
}
