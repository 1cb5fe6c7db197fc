"use strict";
// Adds to a page that is complete without it: what a mark stands for, beside the mark that is pointed at, touched, or reached
// with the arrow keys; and one class at a time in a map.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const REACH = 28; // pixels from a mark at which it is still meant
  const make = (name, kind) => Object.assign(document.createElement(name), kind);
  document.documentElement.classList.add("js");

  const bubble = make("div", { className: "bubble", hidden: true });
  const canvas = bubble.appendChild(make("canvas", { hidden: true }));
  const words = bubble.appendChild(make("span"));
  bubble.setAttribute("role", "status");
  document.body.append(bubble);

  function paint(image, place, index) {
    const { side, stride, across } = Object.fromEntries(Object.entries(place).map(([name, text]) => [name, Number(text)]));
    canvas.width = canvas.height = side;
    const [left, top] = [(index % across) * stride, Math.floor(index / across) * stride];
    canvas.getContext("2d").drawImage(image, left, top, side, side, 0, 0, side, side);
  }

  function enliven(svg) {
    const marks = [...svg.querySelectorAll("use.mark")].map((use) => {
      const title = use.querySelector("title");
      title.remove();
      return { x: Number(use.getAttribute("x")), y: Number(use.getAttribute("y")), tip: title.textContent, i: use.dataset.i, use };
    });
    if (!marks.length) return;
    const figure = svg.closest(".map");
    const image = figure && figure.querySelector(".sprite");
    const ring = document.createElementNS(SVG, "circle");
    ring.setAttribute("class", "ring");
    ring.setAttribute("r", "6");
    let current = null;

    function hide() {
      current = null;
      ring.remove();
      bubble.hidden = true;
    }

    function show(mark) {
      current = mark;
      ring.setAttribute("cx", mark.x);
      ring.setAttribute("cy", mark.y);
      svg.append(ring);
      words.textContent = mark.tip;
      canvas.hidden = !image;
      if (image) paint(image, figure.dataset, Number(mark.i));
      bubble.hidden = false;
      const at = ring.getBoundingClientRect();
      const { width, height } = bubble.getBoundingClientRect();
      const right = document.documentElement.clientWidth - width - 4;
      const above = at.top - height - 8;
      const left = Math.max(4, Math.min(right, at.left + at.width / 2 - width / 2));
      bubble.style.left = `${left + scrollX}px`;
      bubble.style.top = `${(above >= 4 ? above : at.bottom + 8) + scrollY}px`;
    }

    function nearest(event) {
      const matrix = svg.getScreenCTM();
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
      let best = null;
      let least = (REACH / matrix.a) ** 2;
      for (const mark of marks) {
        const distance = (mark.x - point.x) ** 2 + (mark.y - point.y) ** 2;
        if (distance < least && !hidden(mark)) [best, least] = [mark, distance];
      }
      return best;
    }

    const hidden = (mark) => svg.classList.contains("dim") && !mark.use.closest(".lit");

    function towards(key) {
      const [dx, dy] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
      let best = null;
      let least = Infinity;
      for (const mark of marks) {
        const [x, y] = [mark.x - current.x, mark.y - current.y];
        const along = x * dx + y * dy;
        const cost = along + 2 * Math.abs(x * dy - y * dx);
        if (along > 0.01 && cost < least && !hidden(mark)) [best, least] = [mark, cost];
      }
      return best;
    }

    function point(event) {
      const mark = nearest(event);
      if (mark) show(mark);
      else hide();
    }

    svg.setAttribute("tabindex", "0");
    svg.setAttribute("role", "group");
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
    svg.addEventListener("blur", hide);
    svg.addEventListener("focus", () => svg.matches(":focus-visible") && show(marks[0]));
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      if (!event.key.startsWith("Arrow")) return undefined;
      event.preventDefault();
      const mark = current ? towards(event.key) : marks[0];
      if (mark) show(mark);
      return undefined;
    });
  }

  function choose(keys) {
    const svg = keys[0].closest(".map").querySelector("svg.plot");
    const groups = new Map(keys.map((key) => [key, document.getElementById(key.dataset.group)]));
    let pinned = null;
    const light = (key) => {
      svg.classList.toggle("dim", Boolean(key));
      groups.forEach((group, other) => group.classList.toggle("lit", other === key));
    };
    const pin = (key) => {
      pinned = pinned === key ? null : key;
      keys.forEach((other) => other.setAttribute("aria-pressed", String(other === pinned)));
      light(pinned);
    };
    keys.forEach((key) => {
      key.setAttribute("role", "button");
      key.setAttribute("tabindex", "0");
      key.setAttribute("aria-pressed", "false");
      key.addEventListener("pointerenter", () => light(pinned || key));
      key.addEventListener("pointerleave", () => light(pinned));
      key.addEventListener("click", () => pin(key));
      key.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        pin(key);
      });
    });
  }

  document.querySelectorAll("svg.plot").forEach(enliven);
  document.querySelectorAll(".map").forEach((map) => choose([...map.querySelectorAll(".key")]));
})();
