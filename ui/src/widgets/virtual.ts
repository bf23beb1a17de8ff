// Which rows of a long list are drawn: pure arithmetic, shared by the table and the log.

export interface Slice {
  /** First drawn row. */
  from: number;
  /** One past the last drawn row. */
  to: number;
}

/** The rows that a viewport shows, and a few on each side so that a fast wheel meets no gap. */
export function slice(scrollTop: number, viewport: number, row: number, count: number, overscan = 8): Slice {
  const from = Math.max(0, Math.floor(scrollTop / row) - overscan);
  const to = Math.min(count, Math.ceil((scrollTop + viewport) / row) + overscan);
  return { from: Math.min(from, count), to: Math.max(to, Math.min(from, count)) };
}

/** Where to scroll so that a row is seen whole; the same place when it is. */
export function reveal(index: number, scrollTop: number, viewport: number, row: number): number {
  const top = index * row;
  if (top < scrollTop) return top;
  if (top + row > scrollTop + viewport) return top + row - viewport;
  return scrollTop;
}
