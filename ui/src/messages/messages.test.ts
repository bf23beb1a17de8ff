import { describe, expect, test } from "vitest";
import { en, type Entry, type Key } from "./en";
import { chooseLocale, fill } from "./index";
import { zhCN } from "./zh-CN";

const keys = Object.keys(en) as Key[];
const forms = (entry: Entry) => (typeof entry === "string" ? [entry] : Object.values(entry));
const holes = (text: string) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();

const sources = import.meta.glob<string>(["../**/*.{ts,svelte}", "!../messages/*", "!../**/*.test.ts"], {
  query: "?raw", import: "default", eager: true,
});

describe("catalogues", () => {
  test("have the same keys", () => expect(Object.keys(zhCN).sort()).toEqual([...keys].sort()));
  test("leave the same holes", () => {
    for (const key of keys) {
      const other = en[key] as Entry;
      expect(holes(forms(zhCN[key]).join(" ")), key).toEqual(holes(forms(other).join(" ")));
    }
  });
  test("are calm", () => {
    for (const key of keys) expect(forms(en[key]).join(" "), key).not.toMatch(/!|oops/i);
  });
  test("hold nothing that no page says", () => {
    const code = Object.values(sources).join("\n");
    const spoken = (key: string) => code.includes(`"${key}"`) || code.includes(`\`${key.slice(0, key.lastIndexOf(".") + 1)}\${`);
    expect(keys.filter((key) => !spoken(key))).toEqual([]);
  });
});

describe("fill", () => {
  test("chooses the plural form by the language", () => {
    expect(fill(en["containers.count"], "en", { count: 1 })).toBe("1 container");
    expect(fill(en["containers.count"], "en", { count: 10_000 })).toBe("10,000 containers");
    expect(fill(zhCN["containers.count"], "zh-CN", { count: 1 })).toBe("1 个容器");
  });
  test("a value cannot smuggle in a hole", () => expect(fill("{a} {b}", "en", { a: "{b}", b: "x" })).toBe("{b} x"));
});

describe("locale", () => {
  test.each([[["zh-Hans-CN"], "zh-CN"], [["fr", "zh-CN"], "zh-CN"], [["en-GB", "zh-CN"], "en"], [["zh-TW", "en"], "en"], [[], "en"]])(
    "%j is %s", (wanted, locale) => expect(chooseLocale(wanted)).toBe(locale));
});
