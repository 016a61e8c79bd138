// Runs before the first paint, so that nothing flashes. The only script of the page that is not a module.
try {
  const look = JSON.parse(localStorage.getItem("spq-look") || "{}");
  if (look.theme) document.documentElement.dataset.theme = look.theme;
  if (look.fit) document.documentElement.dataset.fit = look.fit;
} catch {
  // no storage: the system's look
}
