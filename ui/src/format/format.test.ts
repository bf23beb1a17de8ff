import { describe, expect, test } from "vitest";
import { css, parseAnsi, PLAIN, stripAnsi } from "./ansi";
import { splitArguments } from "./arguments";
import { bytes } from "./bytes";
import { containerName, shortId, splitHost, splitReference } from "./ids";
import { portLabels } from "./ports";
import { sentence } from "./sentence";
import { relative, span, uptime } from "./time";

describe("bytes", () => {
  test.each([
    [0, "0 B"], [999, "999 B"], [1000, "0.98 KiB"], [1024, "1.00 KiB"], [1023 * 1024, "1.00 MiB"],
    [4_600_000, "4.39 MiB"], [45_000_000, "42.9 MiB"], [123_000_000, "117 MiB"], [64 * 1024 ** 3, "64.0 GiB"],
  ])("%d has three figures", (count, text) => expect(bytes(count)).toBe(text));

  test("a count that is none is a dash", () => expect(bytes(-1)).toBe("–"));
});

describe("time", () => {
  const now = new Date("2026-11-24T12:00:00Z");
  const ago = (seconds: number) => new Date(now.getTime() - seconds * 1000);

  test.each([
    [3, "now"], [45, "45 seconds ago"], [61, "1 minute ago"], [3599, "59 minutes ago"], [7200, "2 hours ago"],
    [26 * 3600, "yesterday"], [400 * 86400, "last year"],
  ])("%d seconds ago reads well", (seconds, text) => expect(relative(ago(seconds), now)).toBe(text));

  test("it speaks Chinese", () => expect(relative(ago(7200), now, "zh-CN")).toBe("2小时前"));
  test("an uptime is the largest whole unit", () => expect(uptime(ago(3 * 3600 + 59 * 60), now)).toBe("3 hours"));
  test("a clock that went backwards is no negative uptime", () => expect(uptime(ago(-5), now)).toBe("0 seconds"));
  test.each([[84.4, "84 ms"], [1930, "1.93 sec"], [12_340, "12.3 sec"], [125_000, "2 min 5 sec"], [59_960, "1 min 0 sec"]])(
    "a span of %d ms keeps its figures", (ms, text) => expect(span(ms)).toBe(text));
});

describe("names", () => {
  test("an id is twelve characters with or without its algorithm", () => {
    expect(shortId(`sha256:${"ab".repeat(32)}`)).toBe("abababababab");
    expect(shortId("0123456789abcdef")).toBe("0123456789ab");
  });
  test("a container without a name is called by its id", () => expect(containerName([], "0123456789abcdef")).toBe("0123456789ab"));
  test("a port is no tag", () => {
    expect(splitReference("localhost:5000/web")).toEqual({ repository: "localhost:5000/web", tag: "" });
    expect(splitReference("localhost:5000/web:1.2")).toEqual({ repository: "localhost:5000/web", tag: "1.2" });
  });
  test("a user name is no registry", () => {
    expect(splitHost("grafana/grafana:12")).toEqual({ host: "", rest: "grafana/grafana:12" });
    expect(splitHost("registry.example.com/shop/api")).toEqual({ host: "registry.example.com/", rest: "shop/api" });
  });
});

describe("sentence", () => {
  test("begins large, unless it begins with a name", () => {
    expect(sentence("the VM ended")).toBe("The VM ended");
    expect(sentence("`qemu` is missing")).toBe("`qemu` is missing");
    expect(sentence("docker.sock is busy")).toBe("docker.sock is busy");
  });
});

describe("ports", () => {
  const port = (publicPort: number | null, privatePort: number, protocol = "tcp", ip = "0.0.0.0") => ({ publicPort, privatePort, protocol, ip });
  test("both address families are said once", () =>
    expect(portLabels([port(8080, 80), port(8080, 80, "tcp", "::")])).toEqual(["8080→80"]));
  test("a protocol that isn't tcp is named", () => expect(portLabels([port(53, 53, "udp")])).toEqual(["53→53/udp"]));
  test("an exposed port has no host side", () => expect(portLabels([port(null, 6379)])).toEqual(["6379"]));
});

describe("ansi", () => {
  test("text without sequences is one plain run", () => expect(parseAnsi("hello").runs).toEqual([{ text: "hello", style: PLAIN }]));
  test("a colour ends where it is reset", () => {
    const { runs } = parseAnsi("\x1b[1;31mERROR\x1b[0m done");
    expect(runs.map((run) => run.text)).toEqual(["ERROR", " done"]);
    expect(css(runs[0]!.style)).toBe("color:var(--ansi-1);font-weight:600");
    expect(css(runs[1]!.style)).toBeUndefined();
  });
  test("a colour carries over to the next line", () => expect(parseAnsi("\x1b[32mgreen").end.color).toBe("var(--ansi-2)"));
  test("256 colours and true colour are read with their parameters", () => {
    expect(parseAnsi("\x1b[38;5;208mx").runs[0]!.style.color).toBe("rgb(255 135 0)");
    expect(parseAnsi("\x1b[38;2;1;2;3;1mx").runs[0]!.style).toMatchObject({ color: "rgb(1 2 3)", bold: true });
  });
  test("what moves a cursor or names a window leaves no trace", () =>
    expect(stripAnsi("\x1b]0;title\x07a\x1b[2K\x1b[1Gb\x1b(c")).toBe("abc".slice(0, 2) + "(c"));
});

describe("arguments", () => {
  test("words are split as a shell does", () =>
    expect(splitArguments(`sh -c "echo 'a b'" \\"x '' `)).toEqual({ kind: "ok", words: ["sh", "-c", "echo 'a b'", '"x', ""] }));
  test("an open quote is said", () => expect(splitArguments("echo 'a")).toEqual({ kind: "open-quote", quote: "'" }));
  test("nothing is no word", () => expect(splitArguments("  ")).toEqual({ kind: "ok", words: [] }));
});
