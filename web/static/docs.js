SwaggerUIBundle({ url: "openapi.json", dom_id: "#page", validatorUrl: null, defaultModelsExpandDepth: 0,
  tryItOutEnabled: false, syntaxHighlight: { theme: "idea" }, deepLinking: true });
