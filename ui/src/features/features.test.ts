import { describe, expect, test } from "vitest";
import type { LogChunk } from "../backend/bindings/LogChunk";
import type { Progress } from "../backend/bindings/Progress";
import { containers, images, STATUS } from "../backend/fake/data";
import { parseAnsi } from "../format/ansi";
import { rank } from "../frame/rank";
import { reveal, slice } from "../widgets/virtual";
import { actionsFor, arrange, toneOf, toRow } from "./containers/containers";
import { findMatches, LogBuffer } from "./containers/log-buffer";
import { marks } from "./containers/marks";
import { check, loadedImage, type RunForm } from "./containers/run";
import { stagesOf, stageViews, startedInMs, tone } from "./engine/engine";
import { arrange as arrangeImages, toRows } from "./images/images";
import { advance, PULL_BEGIN, totals } from "./images/pull";
import { buildStep } from "./images/steps";

describe("engine", () => {
  test("a start shows what is done, what is under way and what waits", () => {
    const status = { ...STATUS, vm: { state: "starting", stage: "agent", attempt: 1 } as const, stages: STATUS.stages.slice(0, 2) };
    expect(stageViews(status).map((view) => view.kind)).toEqual(["done", "done", "now", "waiting"]);
    expect(startedInMs(status)).toBeNull();
    expect(tone(status)).toBe("changing");
  });
  test("without a VM nothing boots", () => expect(stagesOf({ ...STATUS, hypervisor: "native" })).not.toContain("boot"));
  test("a running engine tells how long the start took", () => expect(startedInMs(STATUS)).toBe(1040));
});

describe("containers", () => {
  const rows = containers.map((item) => toRow(item));
  test("what was asked lies over what the engine last said", () => expect(toRow(containers[0]!, "stop").phase).toBe("stopping"));
  test("an exit code is read from the status", () => expect(rows.find((row) => row.name === "seed-fixtures")!.exitCode).toBe(1));
  test("only an exit that nobody asked for is a failure", () => {
    expect(toneOf("exited", 1)).toBe("failed");
    for (const code of [0, 130, 137, 143]) expect(toneOf("exited", code)).toBe("off");
  });
  test("search finds names, images and ids", () => {
    const by = (query: string) => arrange(rows, query, "all", { by: "name", descending: false }).map((row) => row.name);
    expect(by("SHOP-A")).toEqual(["shop-api"]);
    expect(by("grafana/")).toEqual(["grafana"]);
    expect(by(rows[0]!.id.slice(0, 12))).toEqual([rows[0]!.name]);
  });
  test("filters part the list without a rest", () => {
    const count = (filter: "all" | "running" | "stopped") => arrange(rows, "", filter, { by: "name", descending: false }).length;
    expect(count("running") + count("stopped")).toBe(count("all"));
  });
  test("numbers in names are numbers", () => {
    const named = ["job-10", "job-9"].map((name) => ({ ...rows[0]!, name }));
    expect(arrange(named, "", "all", { by: "name", descending: false }).map((row) => row.name)).toEqual(["job-9", "job-10"]);
  });
  test("nothing can be asked of a container while something is", () => expect(actionsFor("stopping")).toEqual([]));
});

describe("run form", () => {
  const form: RunForm = { image: "nginx", name: "", command: "", ports: "", environment: "", remove: false };
  test("ports become bindings and exposed ports", () => {
    const checked = check({ ...form, ports: "8080:80, 127.0.0.1:5353:53/udp" });
    expect(checked.kind === "ok" && checked.create.HostConfig.PortBindings).toEqual({
      "80/tcp": [{ HostIp: "", HostPort: "8080" }], "53/udp": [{ HostIp: "127.0.0.1", HostPort: "5353" }],
    });
    expect(checked.kind === "ok" && checked.create.ExposedPorts).toEqual({ "80/tcp": {}, "53/udp": {} });
  });
  test.each([
    [{ image: " " }, "image"], [{ ports: "80" }, "ports"], [{ ports: "70000:80" }, "ports"], [{ environment: "A=1\nB" }, "environment"], [{ command: "echo '" }, "command"],
  ])("%j is refused at its field", (change, field) => {
    const checked = check({ ...form, ...change });
    expect(checked.kind === "wrong" && checked.field).toBe(field);
  });
  test("a load names its image, with or without a tag", () => {
    expect(loadedImage("Loaded image: hello:latest\n")).toBe("hello:latest");
    expect(loadedImage("Loaded image ID: sha256:ab\n")).toBe("sha256:ab");
    expect(loadedImage("Loading layer")).toBeNull();
  });
  test("an empty command is the image's own", () => {
    const checked = check(form);
    expect(checked.kind === "ok" && checked.create.Cmd).toBeNull();
  });
});

describe("images", () => {
  test("an image with two tags has two rows, one without has its id", () => {
    const rows = toRows(images, new Set());
    expect(rows.filter((row) => row.id === images[2]!.Id).map((row) => row.tag)).toEqual(["alpine", "1.29"]);
    expect(rows.at(-1)!.reference).toBe(images.at(-1)!.Id);
  });
  test("sizes sort as numbers", () => {
    const sizes = arrangeImages(toRows(images, new Set()), "", "all", { by: "size", descending: true }).map((row) => row.size);
    expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
  });
  test.each([
    ['/bin/sh -c #(nop)  CMD ["sh"]', 'CMD ["sh"]'], ["RUN /bin/sh -c npm ci # buildkit", "RUN npm ci"], ["COPY . . # buildkit", "COPY . ."],
  ])("%s is shown as written", (by, text) => expect(buildStep(by)).toBe(text));
});

describe("pull", () => {
  const line = (status: string, id: string | null = null, current?: number, total?: number): Progress => ({
    status, id, progressDetail: total === undefined ? null : { current: current ?? null, total }, stream: null, error: null,
  });
  const fold = (lines: Progress[]) => lines.reduce(advance, PULL_BEGIN);

  test("layers keep their order and the sums add up", () => {
    const state = fold([line("Pulling from library/nginx", "alpine"), line("Pulling fs layer", "a"), line("Pulling fs layer", "b"),
      line("Downloading", "b", 50, 100), line("Downloading", "a", 300, 300), line("Pull complete", "a")]);
    expect(state.layers.map((layer) => [layer.id, layer.phase])).toEqual([["a", "done"], ["b", "downloading"]]);
    expect(totals(state)).toEqual({ current: 350, total: 400, layersDone: 1, fraction: 0.875 });
  });
  test("no size known is no fraction", () => expect(totals(fold([line("Pulling fs layer", "a")])).fraction).toBeNull());
  test("an image that was here already is said to be", () =>
    expect(fold([line("Already exists", "a"), line("Status: Image is up to date for x")])).toMatchObject({ upToDate: true }));
});

describe("log", () => {
  const out = (text: string): LogChunk => ({ stream: "stdout", text });
  test("a line in pieces is one line", () => {
    const buffer = new LogBuffer();
    buffer.push([out("2026-11-24T12:00:00.123456789Z hel"), out("lo\nnext")]);
    expect(buffer.lines).toEqual([{ text: "hello", stream: "stdout", at: "2026-11-24T12:00:00.123456789Z" }]);
    buffer.finish();
    expect(buffer.lines[1]!.text).toBe("next");
  });
  test("streams do not tear each other's lines", () => {
    const buffer = new LogBuffer();
    buffer.push([out("a"), { stream: "stderr", text: "x\n" }, out("b\n")]);
    expect(buffer.lines.map((line) => line.text)).toEqual(["x", "ab"]);
  });
  test("a rewritten line is what was last written", () => {
    const buffer = new LogBuffer();
    buffer.push([out("10 %\r50 %\r100 %\r\n")]);
    expect(buffer.lines[0]!.text).toBe("100 %");
  });
  test("search looks through colours", () => {
    const buffer = new LogBuffer();
    buffer.push([out("\x1b[31mER\x1b[0mROR here\nfine\n")]);
    expect(findMatches(buffer.lines, "error", 0, 2)).toEqual([0]);
  });
  test("a match over a change of colour is marked whole", () => {
    const cut = marks(parseAnsi("\x1b[31mER\x1b[0mROR x").runs, "error");
    expect(cut.filter((run) => run.marked).map((run) => run.text).join("")).toBe("ERROR");
    expect(cut.map((run) => run.text).join("")).toBe("ERROR x");
  });
});

describe("long lists", () => {
  test("only what is seen is drawn", () => {
    const range = slice(28 * 5000, 560, 28, 10_000);
    expect(range).toEqual({ from: 4992, to: 5028 });
  });
  test("a list that shrank under its scroll position draws nothing wrong", () => expect(slice(28_000, 560, 28, 3)).toEqual({ from: 3, to: 3 }));
  test("a row in sight moves nothing", () => expect(reveal(3, 0, 560, 28)).toBe(0));
  test("a row below comes up just enough", () => expect(reveal(20, 0, 560, 28)).toBe(28));
  test("the closest name comes first", () =>
    expect(rank(["reshop", "a shop", "shop", "s-h-o-p"], "shop", (text) => text)).toEqual(["shop", "a shop", "reshop", "s-h-o-p"]));
});
