// What every piece needs: elements whose words are text, and one object for each place that it is mounted in.

const make = (tag, className, words) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (words !== undefined) element.textContent = words;
  return element;
};

// The entry of a component: `Piece` is made once for each root, shows what it is given, and ends with it.
const mounted = (Piece) => {
  const pieces = new WeakMap();
  return (component) => {
    const root = component.parentElement;
    if (!pieces.has(root)) pieces.set(root, new Piece(root));
    pieces.get(root).show(component);
    return () => {
      pieces.get(root)?.end?.();
      pieces.get(root)?.element.remove();
      pieces.delete(root);
    };
  };
};
