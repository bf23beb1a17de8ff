// Moments and spans. All functions are pure: the caller brings the clock and the locale.

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 365 * 86400],
  ["month", 30 * 86400],
  ["week", 7 * 86400],
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];

/** "3 minutes ago", "yesterday", "in 2 hours"; under ten seconds it is "now". */
export function relative(at: Date, now: Date, locale = "en"): string {
  const seconds = Math.round((at.getTime() - now.getTime()) / 1000);
  const format = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  if (Math.abs(seconds) < 10) return format.format(0, "second");
  for (const [unit, size] of STEPS) {
    if (Math.abs(seconds) >= size) return format.format(Math.trunc(seconds / size), unit);
  }
  return format.format(0, "second");
}

/** The exact moment, for a hover: "24 Nov 2026, 17:40:06". */
export function exact(at: Date, locale = "en"): string {
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" }).format(at);
}

/** The largest whole unit of a span: "3 minutes", "2 hours". */
export function uptime(from: Date, now: Date, locale = "en"): string {
  const seconds = Math.max(0, Math.floor((now.getTime() - from.getTime()) / 1000));
  const [unit, size] = STEPS.find(([, size]) => seconds >= size) ?? STEPS[STEPS.length - 1]!;
  return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long" }).format(
    Math.floor(seconds / size),
  );
}

/** A measured span: "84 ms", "1.93 s", "2 min 5 s". */
export function span(ms: number, locale = "en"): string {
  const unit = (value: number, unit: string, digits: number) =>
    new Intl.NumberFormat(locale, {
      style: "unit",
      unit,
      unitDisplay: "short",
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    }).format(value);
  if (ms < 1000) return unit(Math.round(ms), "millisecond", 0);
  if (ms < 9995) return unit(ms / 1000, "second", 2);
  if (ms < 59_950) return unit(ms / 1000, "second", 1);
  const whole = Math.round(ms / 1000);
  return `${unit(Math.floor(whole / 60), "minute", 0)} ${unit(whole % 60, "second", 0)}`;
}
