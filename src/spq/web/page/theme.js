// Runs before the first paint, so that nothing flashes: theme, shape, language. The only script that is not a module.
(() => {
  const root = document.documentElement;
  let look = {};
  try {
    look = JSON.parse(localStorage.getItem("spq-look") || "{}");
  } catch {
    // no storage: the system's look
  }
  if (look.theme) root.dataset.theme = look.theme;
  if (look.fit) root.dataset.fit = look.fit;
  const wanted = look.language ? [look.language] : navigator.languages;
  root.lang = wanted.map((tag) => tag.slice(0, 2).toLowerCase()).find((name) => ["en", "de"].includes(name)) ?? "en";
})();
