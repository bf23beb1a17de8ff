// The words of the interface: one lookup, in the language of the system.

import { en, type Catalogue, type Entry, type Key } from "./en";
import { zhCN } from "./zh-CN";

export type { Key } from "./en";
export type Arguments = Record<string, string | number>;

const CATALOGUES: Record<string, Catalogue> = { en, "zh-CN": zhCN };

/** The best catalogue for the user's languages, in their order; English when none fits. */
export function chooseLocale(wanted: readonly string[]): string {
  for (const language of wanted) {
    const base = language.toLowerCase();
    if (base === "zh" || base.startsWith("zh-hans") || base === "zh-cn" || base === "zh-sg") return "zh-CN";
    if (base === "en" || base.startsWith("en-")) return "en";
  }
  return "en";
}

/** Fills an entry: plural form by `count`, then `{name}` by arguments; numbers through Intl. */
export function fill(entry: Entry, locale: string, values: Arguments = {}): string {
  const template = typeof entry === "string" ? entry : plural(entry, locale, values["count"]);
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name];
    if (value === undefined) return whole;
    return typeof value === "number" ? new Intl.NumberFormat(locale).format(value) : value;
  });
}

function plural(forms: Exclude<Entry, string>, locale: string, count: string | number | undefined): string {
  const rule = new Intl.PluralRules(locale).select(Number(count ?? 0));
  return (rule === "one" ? forms.one : undefined) ?? forms.other;
}

/** The locale of this window, for the formatters too. */
export const locale = chooseLocale(
  typeof navigator === "undefined" ? [] : (navigator.languages ?? [navigator.language]),
);

/** The sentence for a key. */
export function t(key: Key, values?: Arguments): string {
  return fill((CATALOGUES[locale] ?? en)[key], locale, values);
}
