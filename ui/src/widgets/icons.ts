// The icon set: drawn for Sampan on a 16-unit grid, one stroke of 1.4, round caps and joins.

export const ICONS = {
  containers: "M2.5 5.2 8 2.4l5.5 2.8v5.6L8 13.6l-5.5-2.8zM2.5 5.2 8 8l5.5-2.8M8 8v5.6",
  images: "M8 2.3 14 5.4 8 8.5 2 5.4zM2.6 8.2 8 11l5.4-2.8M2.6 10.9 8 13.7l5.4-2.8",
  volumes: "M2.8 4.4c0-1.2 2.3-2.1 5.2-2.1s5.2.9 5.2 2.1S10.9 6.5 8 6.5 2.8 5.6 2.8 4.4zM2.8 4.4v7.2c0 1.2 2.3 2.1 5.2 2.1s5.2-.9 5.2-2.1V4.4M2.8 8c0 1.2 2.3 2.1 5.2 2.1s5.2-.9 5.2-2.1",
  networks: "M6.2 2.5h3.6v3H6.2zM2 10.5h3.6v3H2zM10.4 10.5H14v3h-3.6zM8 5.5V8M3.8 10.5V8h8.4v2.5",
  play: "M5 3.2v9.6l7.6-4.8z",
  stop: "M4 4h8v8H4z",
  restart: "M13 8a5 5 0 1 1-1.6-3.7M13 2.3v2.8h-2.8",
  remove: "M2.8 4.3h10.4M6.2 4.3V2.6h3.6v1.7M4 4.3l.6 9.1h6.8l.6-9.1M6.7 6.8v4.2M9.3 6.8v4.2",
  logs: "M2.8 4h10.4M2.8 8h7M2.8 12h9",
  search: "M7 11.6a4.6 4.6 0 1 0 0-9.2 4.6 4.6 0 0 0 0 9.2zM10.4 10.4l3.4 3.4",
  close: "M4 4l8 8M12 4l-8 8",
  plus: "M8 3v10M3 8h10",
  pull: "M8 2.4v7.4M4.9 6.9 8 10l3.1-3.1M2.6 11v2.4h10.8V11",
  copy: "M5.6 5.6h7.8v7.8H5.6zM3.4 10.4h-.8V2.6h7.8v.8",
  check: "M3 8.4l3.4 3.4L13 4.8",
  left: "M10 3.5 5.5 8 10 12.5",
  up: "M3.5 10 8 5.5l4.5 4.5",
  down: "M3.5 6 8 10.5 12.5 6",
  warning: "M8 2.4 14.3 13.4H1.7zM8 6.4v3.4M8 11.6v.1",
  power: "M8 2.2v5.4M4.7 4.2a5 5 0 1 0 6.6 0",
  clear: "M2.8 4h10.4M2.8 8h4.4M2.8 12h4.4M10 8.4l3.6 3.6M13.6 8.4 10 12",
  newest: "M8 2.6v8M4.7 7.4 8 10.7l3.3-3.3M3 13.4h10",
  clock: "M8 13.7A5.7 5.7 0 1 0 8 2.3a5.7 5.7 0 0 0 0 11.4zM8 4.8V8l2.2 1.5",
} as const;

export type IconName = keyof typeof ICONS;
