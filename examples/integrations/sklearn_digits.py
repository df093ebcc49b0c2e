"""A network, a search and their evaluation on handwritten digits, in one run.

    python examples/integrations/sklearn_digits.py

The data ships inside scikit-learn, so there is nothing to download.
"""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import trackway as tw
from trackway.integrations.sklearn import evaluate, watch


def main() -> None:
    """Train two models and say which one is better."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = parts
    network = MLPClassifier((64,), max_iter=200, early_stopping=True, random_state=0)
    machine = make_pipeline(StandardScaler(), SVC())
    with tw.init(project="digits", name="sklearn") as run, watch():
        pipeline = make_pipeline(StandardScaler(), network).fit(train_images, train_labels)
        search = GridSearchCV(machine, {"svc__C": [0.1, 1.0, 10.0]}, cv=3)
        search.fit(train_images, train_labels)
        for name, model in (("network", pipeline), ("machine", search)):
            found = evaluate(model, test_images, test_labels, prefix=name)
            print(f"{name}: accuracy {found['accuracy']:.1%}, ROC AUC {found['roc_auc']:.4f}")
    print(f"recorded in {run.path}")


if __name__ == "__main__":
    main()
